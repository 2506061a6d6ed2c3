/* `facts`: what decides whether a release can be stored and run, as one JSON line. Nothing is written. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent.h"
#include "board.h"
#include "cpu.h"
#include "libraries.h"

enum { PATH_SIZE = 4096 };

/* The nearest folder above a path, or the path, that exists. */
static void nearest_folder(const char *path, char *folder, size_t size)
{
    struct stat info;
    snprintf(folder, size, "%s", path[0] == '\0' ? "." : path);
    while (stat(folder, &info) != 0 || !S_ISDIR(info.st_mode)) {
        char *slash = strrchr(folder, '/');
        if (slash == NULL)
            snprintf(folder, size, ".");
        else
            slash[slash == folder ? 1 : 0] = '\0';
        if (slash == NULL || slash == folder)
            return;
    }
}

static void add_storage(struct json *json, const char *work_dir)
{
    char folder[PATH_SIZE];
    struct statvfs disk;
    nearest_folder(work_dir, folder, sizeof folder);
    bool known = statvfs(folder, &disk) == 0;
    json_text(json, "folder", folder);
    json_bool(json, "writable", access(folder, W_OK) == 0); /* on a read-only file system, too, it fails */
    json_bool(json, "noexec", known && disk.f_flag & ST_NOEXEC);
    if (known)
        json_integer(json, "free_bytes", (int64_t)disk.f_bavail * (int64_t)disk.f_frsize);
    else
        json_null(json, "free_bytes");
}

static void add_libraries(struct json *json, const char *root, char **names, int count)
{
    char folder[PATH_SIZE];
    json_open(json, "libraries", '[');
    for (int i = 0; i < count; i++)
        if (libraries_find(root, names[i]))
            json_text(json, NULL, names[i]);
    json_close(json, ']');
    json_open(json, "aside", '{');
    for (int i = 0; i < count; i++)
        if (!libraries_find(root, names[i]) && libraries_in_cuda(root, names[i], folder, sizeof folder))
            json_text(json, names[i], folder);
    json_close(json, '}');
}

/* "tegra234" of the device tree's list "nvidia,p3737-0000\0nvidia,tegra234\0"; the board's own name comes first. */
static bool find_soc(const char *root, char *soc, size_t size)
{
    static const char PREFIX[] = "nvidia,tegra";
    char list[4096];
    FILE *file = board_open(root, "/sys/firmware/devicetree/base/compatible");
    if (file == NULL)
        file = board_open(root, "/proc/device-tree/compatible");
    if (file == NULL)
        return false;
    size_t length = fread(list, 1, sizeof list - 1, file);
    fclose(file);
    list[length] = '\0';
    for (const char *at = list; at < list + length; at += strlen(at) + 1) {
        size_t digits = strncmp(at, PREFIX, sizeof PREFIX - 1) == 0
                            ? strspn(at + sizeof PREFIX - 1, "0123456789")
                            : 0;
        if (digits > 0 && at[sizeof PREFIX - 1 + digits] == '\0') {
            snprintf(soc, size, "%s", at + strlen("nvidia,"));
            return true;
        }
    }
    return false;
}

static void add_gpu(struct json *json, const char *root)
{
    static const char *const NODES[] = {"/dev/nvgpu", "/dev/nvhost-gpu", "/dev/nvidia0"};
    char text[4096];
    bool found = false;
    for (size_t i = 0; i < sizeof NODES / sizeof NODES[0]; i++) {
        snprintf(text, sizeof text, "%s%s", root, NODES[i]);
        found = found || access(text, F_OK) == 0;
    }
    json_bool(json, "gpu", found);
    bool jetson = board_read(root, "/etc/nv_tegra_release", text, 256);
    text[jetson ? strcspn(text, "\n") : 0] = '\0';
    json_text(json, "l4t", jetson ? text : NULL);
    json_text(json, "soc", find_soc(root, text, sizeof text) ? text : NULL);
}

bool facts(int count, char **words, struct failure *failure)
{
    char libc[64];
    struct utsname system;
    struct json json = {stdout, false};
    if (count < 2 || strlen(words[0]) > MAX_ROOT)
        return fail(failure, STATUS_USAGE, "facts needs a root, a work directory, and names of libraries");
    const char *root = words[0];
    uname(&system);
    json_open(&json, NULL, '{');
    json_bool(&json, "ok", true);
    json_text(&json, "arch", system.machine);
    json_integer(&json, "bits", libraries_bits(root));
    json_text(&json, "libc", libraries_libc(root, libc, sizeof libc) ? libc : NULL);
    cpu_describe(&json, root);
    add_storage(&json, words[1]);
    add_libraries(&json, root, words + 2, count - 2);
    add_gpu(&json, root);
    return json_end(&json) || fail(failure, STATUS_OUTPUT, "stdout cannot be written: %s", strerror(errno));
}
