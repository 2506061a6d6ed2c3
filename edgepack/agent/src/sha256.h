/* SHA-256 (FIPS 180-4) of data that comes in pieces. */
#ifndef EDGEPACK_SHA256_H
#define EDGEPACK_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sha256 {
    uint32_t state[8];
    uint64_t size; /* bytes so far */
    uint8_t block[64];
    void (*add)(uint32_t state[8], const uint8_t *data, size_t blocks); /* the quickest that the CPU has */
};

enum { SHA256_HEX = 65 }; /* 64 digits and a NUL */

void sha256_begin(struct sha256 *sum);
void sha256_add(struct sha256 *sum, const void *data, size_t size);
void sha256_end(struct sha256 *sum, char hex[SHA256_HEX]);

#endif
