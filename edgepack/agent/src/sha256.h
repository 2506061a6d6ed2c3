/* SHA-256 (FIPS 180-4). */
#ifndef EDGEPACK_SHA256_H
#define EDGEPACK_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_TEXT = 65 }; /* 64 hexadecimal digits and a zero byte */

struct sha256 {
    uint32_t state[8];
    uint64_t size; /* bytes so far */
    uint8_t block[64];
};

void sha256_begin(struct sha256 *sha);
void sha256_add(struct sha256 *sha, const void *data, size_t size);
/* Writes the digest as text; it is also in `state` then, as numbers with the first byte highest. */
void sha256_end(struct sha256 *sha, char text[SHA256_TEXT]);

#endif
