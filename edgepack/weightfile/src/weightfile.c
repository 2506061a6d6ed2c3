#include "weightfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER = 44, ALIGNMENT = 64, MAPPABLE = 4096, VERSION = 2, MOST_TABLES = 1024 };
enum { CODED = 8, LARGEST_WIDTH = 3, BOOLEAN = 6 };
static const char MAGIC[] = "EDGEPKWT";

__attribute__((format(printf, 2, 3))) static bool refuse(char *problem, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem, WEIGHTS_PROBLEM, format, arguments);
    va_end(arguments);
    return false;
}

/* The CRC-32 of a byte with 0 to 7 zero bytes after it. They belong to a file: two threads may open one each. */
static void fill_crc_tables(uint32_t tables[8][256])
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t value = byte;
        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? 0xedb88320 : 0);
        tables[0][byte] = value;
    }
    for (int table = 1; table < 8; table++)
        for (uint32_t byte = 0; byte < 256; byte++) {
            const uint32_t before = tables[table - 1][byte];
            tables[table][byte] = before >> 8 ^ tables[0][before & 255];
        }
}

/* CRC-32 as in zlib, eight bytes at a time. */
static uint32_t crc32(const uint32_t tables[8][256], const uint8_t *data, size_t size)
{
    uint32_t crc = 0xffffffff;
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

/* Memory for `count` things of a size, at least one byte; NULL if there is none. */
static void *obtain(struct weightfile *file, uint64_t count, size_t size)
{
    void *memory = calloc(count + 1, size);
    file->out_of_memory = memory == NULL;
    return memory;
}

/* Says that a part of the file is not valid, if it is not memory that is missing. */
static bool invalid(const struct weightfile *file, char *problem, const char *what)
{
    return file->out_of_memory ? refuse(problem, "out of memory") : refuse(problem, "%s", what);
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

static bool take_tables(struct cursor *index, struct weightfile *file)
{
    struct tables *tables = &file->tables;
    uint64_t count;
    if (!take_varint(index, &count) || count > MOST_TABLES)
        return false;
    tables->all = obtain(file, count, sizeof *tables->all);
    if (tables->all == NULL)
        return false;
    for (tables->count = 0; tables->count < count; tables->count++)
        if (!take_frequencies(index, &tables->all[tables->count]))
            return false;
    return true;
}

static bool take_blocks(struct cursor *index, struct weightfile *file)
{
    uint64_t count;
    if (!take_varint(index, &count) || count > (uint64_t)(index->end - index->at))
        return false;
    file->blocks_count = count;
    file->blocks = obtain(file, count, sizeof *file->blocks);
    if (file->blocks == NULL)
        return false;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t head, stored, crc;
        if (!take_number(index, 1, &head) || (head & ~(uint64_t)CODED) > LARGEST_WIDTH ||
            !take_varint(index, &stored) || !take_number(index, 4, &crc))
            return false;
        file->blocks[i] = (struct block){.coded = (head & CODED) != 0,
                                         .width = (uint8_t)(1 << (head & LARGEST_WIDTH)),
                                         .stored_bytes = stored,
                                         .crc = (uint32_t)crc};
    }
    return true;
}

static bool take_type(struct cursor *index, struct weight *weight)
{
    uint64_t type;
    if (!take_number(index, 1, &type) || type >> 4 > LARGEST_WIDTH)
        return false;
    weight->code = type & 15;
    weight->bits = (uint8_t)(8 << (type >> 4));
    return weight->code <= 2 || weight->code == 4 || type == BOOLEAN; /* int, uint, float; bfloat */
}

/* Reads one entry of the index. */
static bool take_weight(struct cursor *index, struct weightfile *file, struct weight *weight)
{
    uint64_t rank, bytes;
    if (!take_type(index, weight) || !take_number(index, 1, &rank) || rank > WEIGHT_RANK)
        return false;
    weight->rank = (int)rank;
    bytes = weight->bits / 8;
    for (int axis = 0; axis < weight->rank; axis++) {
        uint64_t extent;
        if (!take_varint(index, &extent) || __builtin_mul_overflow(bytes, extent, &bytes))
            return false;
        weight->shape[axis] = (int64_t)extent; /* of 63 bits */
    }
    if (!take_varint(index, &weight->block) || weight->block >= file->blocks_count)
        return false;
    struct block *block = &file->blocks[weight->block];
    weight->place = block->raw_bytes;
    weight->raw_bytes = bytes;
    return weight->bits == 8 * block->width &&
           !__builtin_add_overflow(block->raw_bytes, bytes, &block->raw_bytes);
}

/* Gives the blocks their places, which follow `place` and fill the file. */
static bool place_blocks(struct weightfile *file, uint64_t place, uint64_t size)
{
    for (uint64_t i = 0; i < file->blocks_count; i++) {
        struct block *block = &file->blocks[i];
        if (!block->coded && block->raw_bytes >= MAPPABLE)
            place = (place + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        if (place > size || block->stored_bytes > size - place ||
            (!block->coded && block->stored_bytes != block->raw_bytes))
            return false;
        block->offset = place;
        place += block->stored_bytes;
    }
    return place == size;
}

static bool read_index(struct weightfile *file, const uint8_t *bytes, uint64_t length, uint64_t size,
                       uint64_t raw_bytes, char *problem)
{
    struct cursor index = {bytes, bytes + length};
    uint64_t total = 0;
    if (!take_tables(&index, file))
        return invalid(file, problem, "its tables of frequencies are not valid");
    if (!take_blocks(&index, file))
        return invalid(file, problem, "its list of blocks is not valid");
    if (file->count > (uint64_t)(index.end - index.at))
        return refuse(problem, "its index is too short for %u weights", file->count);
    file->weights = obtain(file, file->count, sizeof *file->weights);
    if (file->weights == NULL)
        return refuse(problem, "out of memory: its index has %u entries", file->count);
    for (uint32_t i = 0; i < file->count; i++) {
        if (!take_weight(&index, file, &file->weights[i]))
            return refuse(problem, "entry %u of its index is not valid", i);
        if (__builtin_add_overflow(total, file->weights[i].raw_bytes, &total) || total > raw_bytes)
            return refuse(problem, "its weights are larger than its header says");
    }
    if (index.at != index.end || total != raw_bytes)
        return refuse(problem, "its index does not match its header");
    if (!place_blocks(file, HEADER + length, size))
        return refuse(problem, "its blocks do not fill the file");
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
    fill_crc_tables(file->crc);
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
    if (number(header + 24, 8) != size || length > size - HEADER)
        return refuse(problem, "its header does not match its size of %llu bytes", (unsigned long long)size);
    if (found.count != expected->count || found.index_crc != expected->index_crc ||
        found.raw_bytes != expected->raw_bytes)
        return refuse(problem, "it belongs to another model");
    uint8_t *index = obtain(file, length, 1);
    if (index == NULL)
        return refuse(problem, "out of memory: its index takes %llu bytes", (unsigned long long)length);
    file->count = found.count;
    bool good = read_all(file->descriptor, index, length, HEADER, problem);
    if (good && crc32(file->crc, index, length) != found.index_crc)
        good = refuse(problem, "its index is damaged");
    good = good && read_index(file, index, length, size, found.raw_bytes, problem);
    free(index);
    return good;
}

/* Reads, decodes and checks the elements of a block. */
static bool read_block(struct weightfile *file, uint64_t index, uint8_t *data, char *problem)
{
    const struct block *block = &file->blocks[index];
    bool good;
    if (!block->coded) {
        good = read_all(file->descriptor, data, block->raw_bytes, block->offset, problem);
    } else {
        uint8_t *code = obtain(file, block->stored_bytes, 1);
        if (code == NULL)
            return refuse(problem, "out of memory: a block takes %llu bytes", (unsigned long long)block->stored_bytes);
        good = read_all(file->descriptor, code, block->stored_bytes, block->offset, problem);
        if (good && !rans_decode(code, block->stored_bytes, &file->tables, data, block->raw_bytes / block->width,
                                 block->width))
            good = refuse(problem, "block %llu is damaged: its code is not well-formed", (unsigned long long)index);
        free(code);
    }
    if (good && crc32(file->crc, data, block->raw_bytes) != block->crc)
        good = refuse(problem, "block %llu is damaged: its checksum does not match", (unsigned long long)index);
    return good;
}

bool weightfile_read(struct weightfile *file, uint32_t index, void *data, char *problem)
{
    const struct weight *weight = &file->weights[index];
    const uint64_t size = file->blocks[weight->block].raw_bytes;
    if (weight->raw_bytes == size)
        return read_block(file, weight->block, data, problem);
    if (file->elements == NULL || file->shared != weight->block) {
        free(file->elements);
        file->elements = obtain(file, size, 1);
        if (file->elements == NULL)
            return refuse(problem, "out of memory: a block takes %llu bytes", (unsigned long long)size);
        file->shared = weight->block;
        if (!read_block(file, weight->block, file->elements, problem)) {
            free(file->elements);
            file->elements = NULL;
            return false;
        }
    }
    memcpy(data, file->elements + weight->place, weight->raw_bytes);
    return true;
}

void weightfile_close(struct weightfile *file)
{
    if (file->descriptor >= 0)
        close(file->descriptor);
    free(file->weights);
    free(file->blocks);
    free(file->tables.all);
    free(file->elements);
    *file = (struct weightfile){.descriptor = -1};
}
