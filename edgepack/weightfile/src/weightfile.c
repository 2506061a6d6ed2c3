#include "weightfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rans.h"

enum { HEADER = 64, ENTRY = 40, ALIGNMENT = 64, VERSION = 1, RAW = 0, RANS = 1, LARGEST_NAME = 4096 };
static const char MAGIC[] = "EDGEPKWT";

__attribute__((format(printf, 2, 3))) static bool refuse(char *problem, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem, WEIGHTS_PROBLEM, format, arguments);
    va_end(arguments);
    return false;
}

/* CRC-32 as in zlib, eight bytes at a time. */
static uint32_t crc32(const uint8_t *data, size_t size)
{
    static uint32_t tables[8][256];
    uint32_t crc = 0xffffffff;
    if (tables[0][1] == 0)
        for (int table = 7; table >= 0; table--) /* the first one last: it says that all are there */
            for (uint32_t byte = 0; byte < 256; byte++) {
                uint32_t value = byte;
                for (int bit = 0; bit < 8 * (table + 1); bit++)
                    value = value >> 1 ^ (value & 1 ? 0xedb88320 : 0);
                tables[table][byte] = value;
            }
    for (; size >= 8; data += 8, size -= 8) {
        crc ^= data[0] | data[1] << 8 | data[2] << 16 | (uint32_t)data[3] << 24;
        crc = tables[7][crc & 255] ^ tables[6][crc >> 8 & 255] ^ tables[5][crc >> 16 & 255] ^
              tables[4][crc >> 24] ^ tables[3][data[4]] ^ tables[2][data[5]] ^ tables[1][data[6]] ^
              tables[0][data[7]];
    }
    for (; size > 0; data++, size--)
        crc = crc >> 8 ^ tables[0][(crc ^ *data) & 255];
    return ~crc;
}

static uint64_t number(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--)
        value = value << 8 | at[i];
    return value;
}

static bool read_all(int descriptor, void *data, size_t size, uint64_t offset, char *problem)
{
    while (size > 0) {
        ssize_t got = pread(descriptor, data, size, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return refuse(problem, "it cannot be read: %s", strerror(errno));
        if (got == 0)
            return refuse(problem, "it is shorter than its index says");
        data = (char *)data + got;
        size -= (size_t)got;
        offset += (uint64_t)got;
    }
    return true;
}

/* Whether the bytes of the elements are those of dtype and shape; their product cannot overflow. */
static bool fits(const struct weight *weight)
{
    uint64_t bytes = weight->bits / 8;
    if (weight->bits == 0 || weight->bits % 8 != 0)
        return false;
    for (int axis = 0; axis < weight->rank; axis++)
        if (weight->shape[axis] < 0 || __builtin_mul_overflow(bytes, (uint64_t)weight->shape[axis], &bytes))
            return false;
    return bytes == weight->raw_bytes;
}

/* Reads one entry of the index at `*at`, and moves it past the entry. `*place` is where the elements must begin. */
static bool read_entry(const uint8_t **at, const uint8_t *end, uint64_t *place, uint64_t size,
                       struct weight *weight, char *problem)
{
    const uint8_t *entry = *at;
    if (end - entry < ENTRY)
        return refuse(problem, "its index ends within an entry");
    *weight = (struct weight){.offset = number(entry, 8),
                              .stored_bytes = number(entry + 8, 8),
                              .raw_bytes = number(entry + 16, 8),
                              .crc = (uint32_t)number(entry + 24, 4),
                              .code = entry[32],
                              .bits = entry[33],
                              .rank = entry[34],
                              .coding = entry[35]};
    const uint64_t name = number(entry + 28, 4);
    if (weight->rank > WEIGHT_RANK || name > LARGEST_NAME || number(entry + 36, 4) != 0)
        return refuse(problem, "its index has an entry with %d axes and a name of %llu bytes", weight->rank,
                      (unsigned long long)name);
    const uint64_t length = (ENTRY + 8 * (uint64_t)weight->rank + name + 7) / 8 * 8;
    if ((uint64_t)(end - entry) < length)
        return refuse(problem, "its index ends within an entry");
    for (int axis = 0; axis < weight->rank; axis++)
        weight->shape[axis] = (int64_t)number(entry + ENTRY + 8 * axis, 8);
    if (!fits(weight) || weight->coding > RANS ||
        (weight->coding == RAW && weight->stored_bytes != weight->raw_bytes))
        return refuse(problem, "its index has an entry whose sizes contradict each other");
    if (weight->offset != *place || *place > size || weight->stored_bytes > size - *place)
        return refuse(problem, "its index has an entry that is not where it must be");
    *place = (*place + weight->stored_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    *at = entry + length;
    return true;
}

static bool read_index(struct weightfile *file, const uint8_t *index, size_t length, uint64_t size,
                       uint64_t raw_bytes, char *problem)
{
    const uint8_t *at = index, *const end = index + length;
    uint64_t place = (HEADER + length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT, last = place, total = 0;
    file->weights = calloc(file->count + 1, sizeof *file->weights);
    if (file->weights == NULL)
        return refuse(problem, "out of memory: its index has %u entries", file->count);
    for (uint32_t i = 0; i < file->count; i++) {
        struct weight *weight = &file->weights[i];
        if (!read_entry(&at, end, &place, size, weight, problem))
            return false;
        last = weight->offset + weight->stored_bytes;
        if (__builtin_add_overflow(total, weight->raw_bytes, &total) || total > raw_bytes)
            return refuse(problem, "its weights are larger than its header says");
    }
    if (at != end || total != raw_bytes || last != size)
        return refuse(problem, "its index does not cover the file");
    return true;
}

static bool open_regular(const char *path, int *descriptor, uint64_t *size, char *problem)
{
    struct stat status;
    *descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO would block */
    if (*descriptor < 0 || fstat(*descriptor, &status) != 0)
        return refuse(problem, "it cannot be opened: %s", strerror(errno));
    if (!S_ISREG(status.st_mode))
        return refuse(problem, "it is not a regular file");
    *size = (uint64_t)status.st_size;
    return true;
}

bool weightfile_open(struct weightfile *file, const char *path, const struct weights_identity *expected,
                     char *problem)
{
    uint8_t header[HEADER];
    uint64_t size = 0;
    *file = (struct weightfile){.descriptor = -1};
    if (!open_regular(path, &file->descriptor, &size, problem))
        return false;
    if (size < HEADER)
        return refuse(problem, "it is shorter than its header");
    if (!read_all(file->descriptor, header, HEADER, 0, problem))
        return false;
    if (memcmp(header, MAGIC, sizeof MAGIC - 1) != 0 || number(header + 8, 4) != VERSION)
        return refuse(problem, "it is not a weights file of version %d", VERSION);
    const struct weights_identity found = {(uint32_t)number(header + 12, 4), (uint32_t)number(header + 40, 4),
                                           number(header + 32, 8)};
    const uint64_t length = number(header + 16, 8);
    if (number(header + 24, 8) != size || length > size - HEADER || found.count > length / ENTRY)
        return refuse(problem, "its header does not match its size of %llu bytes", (unsigned long long)size);
    if (found.count != expected->count || found.index_crc != expected->index_crc ||
        found.raw_bytes != expected->raw_bytes)
        return refuse(problem, "it belongs to another model");
    uint8_t *index = malloc(length + 1);
    if (index == NULL)
        return refuse(problem, "out of memory: its index takes %llu bytes", (unsigned long long)length);
    file->count = found.count;
    bool good = read_all(file->descriptor, index, length, HEADER, problem);
    if (good && crc32(index, length) != found.index_crc)
        good = refuse(problem, "its index is damaged");
    good = good && read_index(file, index, length, size, found.raw_bytes, problem);
    free(index);
    return good;
}

bool weightfile_read(const struct weightfile *file, uint32_t index, void *data, char *problem)
{
    const struct weight *weight = &file->weights[index];
    const size_t width = weight->bits / 8;
    bool good;
    if (weight->coding == RAW) {
        good = read_all(file->descriptor, data, weight->raw_bytes, weight->offset, problem);
    } else {
        uint8_t *code = malloc(weight->stored_bytes + 1);
        if (code == NULL)
            return refuse(problem, "out of memory: a weight takes %llu bytes",
                          (unsigned long long)weight->stored_bytes);
        good = read_all(file->descriptor, code, weight->stored_bytes, weight->offset, problem);
        if (good && !rans_decode(code, weight->stored_bytes, data, weight->raw_bytes / width, width))
            good = refuse(problem, "weight %u is damaged: its code is not well-formed", index);
        free(code);
    }
    if (good && crc32(data, weight->raw_bytes) != weight->crc)
        good = refuse(problem, "weight %u is damaged: its checksum does not match", index);
    return good;
}

void weightfile_close(struct weightfile *file)
{
    if (file->descriptor >= 0)
        close(file->descriptor);
    free(file->weights);
    *file = (struct weightfile){.descriptor = -1};
}
