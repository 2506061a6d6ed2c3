#include "chunks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "regular.h"
#include "sha256.h"

enum {
    DIGEST_SIZE = 5, /* of a chunk's sha256; the whole file is compared in the end */
    BUFFER = 1 << 18,
    /* Bits of the hash that are 0 at a cut: fewer from CHUNK_NORMAL on, so that sizes vary less. */
    BITS_BEFORE = 14,
    BITS_AFTER = 12,
};

void gear_begin(struct gear *gear)
{
    for (int i = 0; i < 256; i++) {
        struct sha256 sha;
        char text[SHA256_HEX];
        uint8_t byte = (uint8_t)i;
        sha256_begin(&sha);
        sha256_add(&sha, &byte, 1);
        sha256_end(&sha, text);
        gear->values[i] = sha.state[0];
    }
}

size_t chunk_size(const struct gear *gear, int finer, const uint8_t *data, size_t size)
{
    uint32_t hash = 0;
    size_t least = CHUNK_MIN >> finer, normal = CHUNK_NORMAL >> finer, most = CHUNK_MAX >> finer;
    size_t end = size < most ? size : most;
    if (size <= least)
        return size;
    /* The hash is of the last 32 bytes alone: each shift drops the oldest bit of one. */
    for (size_t i = least - CHUNK_WINDOW; i < end; i++) {
        int bits = (i < normal ? BITS_BEFORE : BITS_AFTER) - finer;
        if (i >= least && hash >> (32 - bits) == 0)
            return i;
        hash = (hash << 1) + gear->values[data[i]];
    }
    return end;
}

static bool write_record(const uint8_t *data, size_t size)
{
    struct sha256 sha;
    char text[SHA256_HEX];
    uint8_t record[2 + DIGEST_SIZE] = {(uint8_t)size, (uint8_t)(size >> 8)};
    sha256_begin(&sha);
    sha256_add(&sha, data, size);
    sha256_end(&sha, text);
    for (int i = 0; i < DIGEST_SIZE; i++)
        record[2 + i] = (uint8_t)(sha.state[i / 4] >> (24 - 8 * (i % 4)));
    return fwrite(record, sizeof record, 1, stdout) == 1;
}

/* Writes a record for each chunk; a file that cannot be read further ends there. */
static bool list_file(const struct gear *gear, int finer, FILE *file, uint8_t *buffer)
{
    size_t begin = 0, end = 0;
    for (;;) {
        if (end - begin < CHUNK_MAX) {
            memmove(buffer, buffer + begin, end - begin);
            end -= begin, begin = 0;
            end += fread(buffer + end, 1, BUFFER - end, file);
        }
        if (begin == end)
            return true;
        size_t size = chunk_size(gear, finer, buffer + begin, end - begin);
        if (!write_record(buffer + begin, size))
            return false;
        begin += size;
    }
}

/* A line of stdin: how much finer the chunks are, a space, and the path; false at the end. */
static bool next_path(char *line, size_t size, int *finer, struct failure *failure, bool *good)
{
    if (fgets(line, (int)size, stdin) == NULL)
        return false;
    size_t length = strlen(line);
    if (length == 0 || line[length - 1] != '\n')
        return *good = fail(failure, STATUS_STREAM, "a path is longer than %zu bytes", size - 4);
    line[length - 1] = '\0';
    *finer = line[0] - '0';
    if (*finer < 0 || *finer > CHUNK_FINEST || line[1] != ' ')
        return *good = fail(failure, STATUS_STREAM, "'%.100s' is not a number up to %d and a path", line, CHUNK_FINEST);
    return true;
}

bool chunks(const struct options *options, struct failure *failure)
{
    static const char END[2];
    struct gear gear;
    struct failure ignored;
    char line[4096];
    int finer;
    bool good = true;
    if (chdir(options->work_dir) != 0)
        return fail(failure, STATUS_INPUT, "%s: %s", options->work_dir, strerror(errno));
    uint8_t *buffer = malloc(BUFFER);
    if (buffer == NULL)
        return fail(failure, STATUS_INTERNAL, "out of memory");
    gear_begin(&gear);
    while (good && next_path(line, sizeof line, &finer, failure, &good)) {
        FILE *file = regular_open(line + 2, &ignored);
        if (file != NULL) {
            good = list_file(&gear, finer, file, buffer);
            fclose(file);
        }
        good = good && fwrite(END, sizeof END, 1, stdout) == 1;
        if (!good)
            fail(failure, STATUS_OUTPUT, "the chunks cannot be written");
    }
    free(buffer);
    if (good && fflush(stdout) != 0)
        return fail(failure, STATUS_OUTPUT, "the chunks cannot be written");
    return good;
}
