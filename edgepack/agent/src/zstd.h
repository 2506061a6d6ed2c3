/* Zstandard (RFC 8878): decompression of a frame that is in memory, into memory. */
#ifndef EDGEPACK_ZSTD_H
#define EDGEPACK_ZSTD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decompresses one frame into exactly `size` bytes. False if it is not such a frame, needs a dictionary or is damaged. A
 * checksum in it is skipped: whoever uses the contents compares a better one. Not for several threads. */
bool zstd_decode(const uint8_t *frame, size_t stored, uint8_t *out, size_t size);

#endif
