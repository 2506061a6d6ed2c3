/* `info`: properties of this board, as one JSON line. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent.h"
#include "board.h"
#include "cpu.h"
#include "libraries.h"
#include "matching.h"
#include "runtime.h"

static void add_disk(struct json *json, const char *work_dir)
{
    struct statvfs disk;
    json_open(json, "disk", '{');
    json_text(json, "path", work_dir);
    if (statvfs(work_dir, &disk) == 0)
        json_integer(json, "free_bytes", (int64_t)disk.f_bavail * (int64_t)disk.f_frsize);
    else
        json_null(json, "free_bytes");
    json_close(json, '}');
}

/* "qemu-user" when this process is interpreted: qemu fakes /proc/self/maps and not this file, which
 * shows the emulator's own pages. */
static const char *emulation(const char *root)
{
    char line[1024];
    const char *found = NULL;
    FILE *maps = board_open(root, "/proc/thread-self/maps");
    if (maps == NULL)
        return NULL;
    while (found == NULL && fgets(line, sizeof line, maps) != NULL)
        if (strstr(line, "/qemu-") != NULL)
            found = "qemu-user";
    fclose(maps);
    return found;
}

static void add_path(const char *root, const char *path, void *json)
{
    (void)root;
    json_text(json, NULL, path);
}

/* JetPack's release (L4T), the driver, and every CUDA runtime in JetPack's folders.
 * "loadable" checks that the dynamic loader finds what libtvm_runtime_cuda.so needs. */
static void add_cuda(struct json *json, const char *root)
{
    char l4t[256];
    bool jetson = board_read(root, "/etc/nv_tegra_release", l4t, sizeof l4t);
    l4t[jetson ? strcspn(l4t, "\n") : 0] = '\0';
    json_open(json, "cuda", '{');
    json_text(json, "l4t", jetson ? l4t : NULL);
    json_open(json, "runtimes", '[');
    each_match(root, "/usr/local/cuda*/lib64/libcudart.so.*", add_path, json);
    each_match(root, "/usr/local/cuda*/targets/*/lib/libcudart.so.*", add_path, json);
    each_match(root, "/usr/lib/*-linux-gnu/libcudart.so.*", add_path, json);
    json_close(json, ']');
    json_bool(json, "driver", runtime_loads("libcuda.so.1"));
    json_bool(json, "loadable", runtime_loads("libcudart.so.13"));
    json_close(json, '}');
}

static void add_runtime(struct json *json)
{
    char version[32];
    struct failure failure;
    if (!runtime_exists()) {
        json_null(json, "runtime");
        return;
    }
    bool loads = runtime_version(version, sizeof version, &failure);
    json_open(json, "runtime", '{');
    json_text(json, "tvm", EDGEPACK_TVM_VERSION); /* the runtime has no call for it */
    json_text(json, "tvm_ffi", loads ? version : NULL);
    json_text(json, "error", loads ? NULL : failure.text);
    json_close(json, '}');
}

static void add_system(struct json *json, const char *root)
{
    char model[256], libc[64];
    struct utsname system;
    bool known = board_read(root, "/proc/device-tree/model", model, sizeof model) ||
                 board_read(root, "/sys/firmware/devicetree/base/model", model, sizeof model) ||
                 board_read(root, "/sys/class/dmi/id/product_name", model, sizeof model);
    uname(&system);
    json_text(json, "arch", system.machine);
    json_text(json, "libc", libraries_libc(root, libc, sizeof libc) ? libc : NULL);
    json_text(json, "kernel", system.release);
    json_text(json, "board", known ? model : NULL);
    json_text(json, "emulation", emulation(root));
}

bool info(const struct options *options, struct failure *failure)
{
    const char *root = options->root;
    struct json json = {stdout, false};
    if (strlen(root) > MAX_ROOT)
        return fail(failure, STATUS_USAGE, "--root is longer than %d bytes", MAX_ROOT);
    json_open(&json, NULL, '{');
    json_bool(&json, "ok", true);
    json_integer(&json, "protocol", PROTOCOL_VERSION);
    json_text(&json, "agent", EDGEPACK_VERSION);
    add_system(&json, root);
    cpu_describe(&json, root);
    json_integer(&json, "cores", sysconf(_SC_NPROCESSORS_ONLN));
    json_integer(&json, "page_size", sysconf(_SC_PAGESIZE));
    json_integer(&json, "memory_total_kib", board_kib(root, "/proc/meminfo", "MemTotal"));
    json_integer(&json, "memory_available_kib", board_kib(root, "/proc/meminfo", "MemAvailable"));
    add_disk(&json, options->work_dir);
    add_runtime(&json);
    add_cuda(&json, root);
    board_state(&json, "state", root);
    return json_end(&json) || fail(failure, STATUS_OUTPUT, "stdout cannot be written: %s", strerror(errno));
}
