/* CRC-32 as in zlib. */
#ifndef EDGEPACK_CRC32_H
#define EDGEPACK_CRC32_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct crc32 {
    uint32_t tables[8][256];
    bool has_instructions; /* the CPU has what the fast way needs */
};

/* Fills the tables, which belong to whoever uses them: there is no global state. */
void crc32_prepare(struct crc32 *crc32);

uint32_t crc32_of(const struct crc32 *crc32, const uint8_t *data, size_t size);

#endif
