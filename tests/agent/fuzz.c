/* libFuzzer harness: everything in the agent that reads bytes written by somebody else. The first byte
 * of the input chooses the parser. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "board.h"
#include "elf_check.h"
#include "job.h"
#include "npy.h"
#include "zstd.h"

/* A file with this content; its path is written to `path`. */
static int make_file(const uint8_t *data, size_t size, char *path, size_t path_size)
{
    int file = memfd_create("fuzz", MFD_CLOEXEC);
    if (file < 0 || write(file, data, size) != (ssize_t)size)
        abort();
    snprintf(path, path_size, "/proc/self/fd/%d", file);
    return file;
}

static void fuzz_npy_header(const uint8_t *data, size_t size)
{
    struct tensor_type type;
    struct failure failure = {STATUS_OK, ""};
    bool good = npy_parse_header((const char *)data, size, &type, &failure);
    if (good && (type.dtype == NULL || type.rank < 0 || type.rank > MAX_RANK))
        abort();
    if (!good && (failure.status == STATUS_OK || failure.text[0] == '\0'))
        abort();
}

/* What a file says is read in full, as `run` does. */
static void fuzz_npy_file(const uint8_t *data, size_t size)
{
    char path[64];
    struct npy npy;
    struct failure failure;
    int64_t nan, inf;
    int file = make_file(data, size, path, sizeof path);
    if (npy_open(&npy, path, &failure)) {
        char *elements = malloc(npy.type.size + 1);
        if (elements == NULL || !npy_read(&npy, elements, npy.type.size, &failure))
            abort(); /* npy_open promised that the data is there */
        count_not_finite(npy.type.dtype, elements, npy.type.size, &nan, &inf);
        free(elements);
    }
    npy_close(&npy, &failure);
    close(file);
}

static void fuzz_job(const uint8_t *data, size_t size)
{
    static struct job job;
    struct failure failure;
    if (size > MAX_LINE || !job_parse((const char *)data, size, &job, &failure))
        return;
    if (job.size == 0 || job.size > MAX_LIBRARY || job.id[0] == '\0')
        abort();
    for (int i = 0; i < job.argument_count && job.failure.status == STATUS_OK; i++) {
        if (job.arguments[i].size > 1 << 20)
            continue;
        char *elements = malloc(job.arguments[i].size + 1);
        if (elements == NULL)
            abort();
        fill_reproducible(&job.arguments[i], elements, (uint64_t)i);
        free(elements);
    }
}

static void fuzz_elf(const uint8_t *data, size_t size)
{
    char path[64];
    struct failure failure;
    int file = make_file(data, size, path, sizeof path);
    unsigned char build_id[BUILD_ID];
    elf_check(path, build_id, &failure);
    close(file);
}

/* A message of TVM, or a line of /proc, on its way into a JSON line. */
static void fuzz_text(const uint8_t *data, size_t size)
{
    char value[32];
    char *text = strndup((const char *)data, size);
    FILE *nowhere = fopen("/dev/null", "w");
    if (text == NULL || nowhere == NULL)
        abort();
    struct json json = {nowhere, false};
    json_open(&json, NULL, '{');
    json_bytes(&json, "all", (const char *)data, size);
    if (board_field(text, "Features", value, sizeof value))
        json_text(&json, "field", value);
    json_end(&json);
    fclose(nowhere);
    free(text);
}

/* A frame with its size before compression in front. */
static void fuzz_zstd(const uint8_t *data, size_t size)
{
    if (size < 2)
        return;
    size_t content = (size_t)(data[0] | data[1] << 8);
    uint8_t *out = malloc(content + 1);
    if (out == NULL)
        abort();
    zstd_decode(data + 2, size - 2, out, content);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const PARSERS[])(const uint8_t *, size_t) = {fuzz_npy_header, fuzz_npy_file, fuzz_job, fuzz_elf,
                                                               fuzz_text, fuzz_zstd};
    if (size > 0)
        PARSERS[data[0] % 6](data + 1, size - 1);
    return 0;
}
