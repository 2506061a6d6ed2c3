#include "weightfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER = 44, MAPPABLE = 4096, VERSION = 2, MOST_TABLES = 1024 };
enum { CODED = 8, LARGEST_WIDTH = 3, BOOLEAN = 6 };
static const char MAGIC[] = "EDGEPKWT";

__attribute__((format(printf, 2, 3))) static bool refuse(struct weights_problem *problem, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem->text, sizeof problem->text, format, arguments);
    va_end(arguments);
    return false;
}

static bool out_of_memory(struct weights_problem *problem, const char *what, uint64_t size)
{
    problem->out_of_memory = true;
    return refuse(problem, "out of memory: %s of %llu bytes", what, (unsigned long long)size);
}

static bool take_tables(struct cursor *index, struct weightfile *file, struct weights_problem *problem)
{
    struct tables *tables = &file->tables;
    uint64_t count;
    if (!take_varint(index, &count) || count > MOST_TABLES)
        return refuse(problem, "it has too many tables of frequencies");
    tables->all = calloc(count + 1, sizeof *tables->all);
    if (tables->all == NULL)
        return out_of_memory(problem, "tables", count * sizeof *tables->all);
    for (tables->count = 0; tables->count < count; tables->count++)
        if (!take_frequencies(index, &tables->all[tables->count]))
            return refuse(problem, "its tables of frequencies are not valid");
    return true;
}

static bool take_blocks(struct cursor *index, struct weightfile *file, struct weights_problem *problem)
{
    uint64_t count;
    if (!take_varint(index, &count) || count > (uint64_t)(index->end - index->at))
        return refuse(problem, "its list of blocks is not valid");
    file->blocks_count = count;
    file->blocks = calloc(count + 1, sizeof *file->blocks);
    if (file->blocks == NULL)
        return out_of_memory(problem, "a list of blocks", count * sizeof *file->blocks);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t head, stored, crc;
        if (!take_number(index, 1, &head) || (head & ~(uint64_t)CODED) > LARGEST_WIDTH ||
            !take_varint(index, &stored) || !take_number(index, 4, &crc))
            return refuse(problem, "its list of blocks is not valid");
        file->blocks[i] = (struct block){.first = file->count,
                                         .coded = (head & CODED) != 0,
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
static bool take_weight(struct cursor *index, struct weightfile *file, uint32_t number)
{
    struct weight *weight = &file->weights[number];
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
    weight->next = block->first; /* the order in which they are gone through does not matter */
    block->first = number;
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
            place = (place + WEIGHT_ALIGNMENT - 1) / WEIGHT_ALIGNMENT * WEIGHT_ALIGNMENT;
        if (place > size || block->stored_bytes > size - place ||
            (!block->coded && block->stored_bytes != block->raw_bytes))
            return false;
        block->offset = place;
        place += block->stored_bytes;
    }
    return place == size;
}

static bool read_index(struct weightfile *file, uint64_t length, uint64_t raw_bytes, struct weights_problem *problem)
{
    struct cursor index = {file->data + HEADER, file->data + HEADER + length};
    uint64_t total = 0;
    if (!take_tables(&index, file, problem) || !take_blocks(&index, file, problem))
        return false;
    if (file->count > (uint64_t)(index.end - index.at))
        return refuse(problem, "its index is too short for %u weights", file->count);
    file->weights = calloc((size_t)file->count + 1, sizeof *file->weights);
    if (file->weights == NULL)
        return out_of_memory(problem, "an index", file->count * sizeof *file->weights);
    for (uint32_t i = 0; i < file->count; i++) {
        if (!take_weight(&index, file, i))
            return refuse(problem, "entry %u of its index is not valid", i);
        if (__builtin_add_overflow(total, file->weights[i].raw_bytes, &total) || total > raw_bytes)
            return refuse(problem, "its weights are larger than its header says");
    }
    if (index.at != index.end || total != raw_bytes)
        return refuse(problem, "its index does not match its header");
    if (!place_blocks(file, HEADER + length, file->size))
        return refuse(problem, "its blocks do not fill the file");
    return true;
}

static bool map_regular(struct weightfile *file, const char *path, struct weights_problem *problem)
{
    struct stat status;
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO would block */
    if (descriptor < 0)
        return refuse(problem, "it cannot be opened: %s", strerror(errno));
    bool good = true;
    if (fstat(descriptor, &status) != 0)
        good = refuse(problem, "it cannot be opened: %s", strerror(errno));
    else if (!S_ISREG(status.st_mode))
        good = refuse(problem, "it is not a regular file");
    else if (status.st_size > 0) {
        file->size = (uint64_t)status.st_size;
        file->mapped = mmap(NULL, file->size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (file->mapped == MAP_FAILED) {
            file->mapped = NULL;
            good = errno == ENOMEM ? out_of_memory(problem, "a file", file->size)
                                   : refuse(problem, "it cannot be mapped: %s", strerror(errno));
        }
    }
    close(descriptor);
    file->data = file->mapped;
    return good;
}

/* Reads the index of what has been mapped. */
static bool begin(struct weightfile *file, const struct weights_identity *expected, struct weights_problem *problem)
{
    const uint8_t *header = file->data;
    crc32_prepare(&file->crc32);
    if (file->size < HEADER)
        return refuse(problem, "it is shorter than its header");
    if (memcmp(header, MAGIC, sizeof MAGIC - 1) != 0 || number(header + 8, 4) != VERSION)
        return refuse(problem, "it is not a weights file of version %d", VERSION);
    const struct weights_identity found = {(uint32_t)number(header + 12, 4), (uint32_t)number(header + 40, 4),
                                           number(header + 32, 8)};
    const uint64_t length = number(header + 16, 8);
    if (number(header + 24, 8) != file->size || length > file->size - HEADER)
        return refuse(problem, "its header does not match its size of %llu bytes", (unsigned long long)file->size);
    if (found.count != expected->count || found.index_crc != expected->index_crc ||
        found.raw_bytes != expected->raw_bytes)
        return refuse(problem, "it belongs to another model");
    if (crc32_of(&file->crc32, header + HEADER, length) != found.index_crc)
        return refuse(problem, "its index is damaged");
    file->count = found.count;
    return read_index(file, length, found.raw_bytes, problem);
}

bool weightfile_open(struct weightfile *file, const char *path, const struct weights_identity *expected,
                     struct weights_problem *problem)
{
    *file = (struct weightfile){0};
    return map_regular(file, path, problem) && begin(file, expected, problem);
}

bool weightfile_open_memory(struct weightfile *file, const void *data, uint64_t size,
                            const struct weights_identity *expected, struct weights_problem *problem)
{
    *file = (struct weightfile){.data = data, .size = size};
    if ((uintptr_t)data % WEIGHT_ALIGNMENT != 0) {
        void *copy = mmap(NULL, size + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (copy == MAP_FAILED)
            return out_of_memory(problem, "a copy", size);
        file->data = file->mapped = memcpy(copy, data, size);
        file->copied = true;
    }
    return begin(file, expected, problem);
}

const uint8_t *weightfile_in_place(const struct weightfile *file, uint32_t index)
{
    const struct weight *weight = &file->weights[index];
    const struct block *block = &file->blocks[weight->block];
    const uint8_t *place = file->data + block->offset + weight->place;
    return !block->coded && (uintptr_t)place % WEIGHT_ALIGNMENT == 0 ? place : NULL;
}

/* Copies those weights of a block that are wanted. */
static void deal_out(const struct weightfile *file, const struct block *block, const uint8_t *elements,
                     uint8_t *const *homes)
{
    for (uint32_t i = block->first; i < file->count; i = file->weights[i].next) {
        const struct weight *weight = &file->weights[i];
        if (homes[i] != NULL && homes[i] != elements && weight->raw_bytes > 0)
            memcpy(homes[i], elements + weight->place, weight->raw_bytes);
    }
}

/* Where a block can be decoded to: the home of a weight that has all of its elements, or NULL. */
static uint8_t *only_home(const struct weightfile *file, const struct block *block, uint8_t *const *homes)
{
    for (uint32_t i = block->first; i < file->count; i = file->weights[i].next)
        if (file->weights[i].raw_bytes == block->raw_bytes && homes[i] != NULL)
            return homes[i];
    return NULL;
}

bool weightfile_read_block(const struct weightfile *file, uint64_t index, uint8_t *const *homes,
                           struct weights_problem *problem)
{
    const struct block *block = &file->blocks[index];
    const uint8_t *stored = file->data + block->offset, *elements = stored;
    void *memory = NULL;
    bool good = true;
    if (block->coded) {
        uint8_t *home = only_home(file, block, homes);
        if (home == NULL) { /* a few small ones; malloc would keep memory for each of the threads */
            memory = mmap(NULL, block->raw_bytes + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (memory == MAP_FAILED)
                return out_of_memory(problem, "a block", block->raw_bytes);
            home = memory;
        }
        if (!rans_decode(stored, block->stored_bytes, &file->tables, home, block->raw_bytes / block->width,
                         block->width))
            good = refuse(problem, "block %llu is damaged: its code is not well-formed", (unsigned long long)index);
        elements = home;
    }
    if (good && crc32_of(&file->crc32, elements, block->raw_bytes) != block->crc)
        good = refuse(problem, "block %llu is damaged: its checksum does not match", (unsigned long long)index);
    if (good)
        deal_out(file, block, elements, homes);
    if (memory != NULL)
        munmap(memory, block->raw_bytes + 1);
    return good;
}

void weightfile_forget(const struct weightfile *file, uint64_t index)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    const struct block *block = &file->blocks[index];
    const uint64_t begin = (block->offset + page - 1) / page * page;
    const uint64_t end = (block->offset + block->stored_bytes) / page * page;
    if (file->mapped != NULL && !file->copied && begin < end)
        madvise((uint8_t *)file->mapped + begin, end - begin, MADV_DONTNEED);
}

void weightfile_close(struct weightfile *file)
{
    if (file->mapped != NULL)
        munmap(file->mapped, file->size + (file->copied ? 1 : 0));
    free(file->weights);
    free(file->blocks);
    free(file->tables.all);
    *file = (struct weightfile){0};
}
