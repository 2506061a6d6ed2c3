/* The entropy codes of Zstandard (RFC 8878, 4.1 and 4.2): tables of finite states, and Huffman codes. */
#ifndef EDGEPACK_ENTROPY_H
#define EDGEPACK_ENTROPY_H

#include "bits.h"

enum { HUFFMAN_BITS = 11 };

/* A state: its symbol, and the next state as a number of bits to read and what to add to them. */
struct fse_state {
    uint8_t symbol, bits;
    uint16_t base;
};

struct fse {
    struct fse_state *states; /* 1 << bits */
    int bits;                 /* -1: none yet */
};

/* Builds a table from how often each symbol occurs of 1 << bits; -1: once, at its end. */
bool fse_build(struct fse *table, const int16_t *counts, int symbols, int bits);

/* A table of one symbol, which takes no bits. */
void fse_single(struct fse *table, uint8_t symbol);

/* Reads a table's description; returns its size in bytes, 0 if it is damaged or has more symbols or bits. */
size_t fse_read(struct fse *table, const uint8_t *data, size_t size, int symbols, int bits);

static inline uint32_t fse_next(const struct fse *table, uint32_t state, struct bits *bits)
{
    return table->states[state].base + bits_take(bits, table->states[state].bits);
}

struct huffman {
    struct {
        uint8_t symbol, bits;
    } codes[1 << HUFFMAN_BITS];
    int bits; /* of the longest code; -1: none yet */
};

/* Reads the description of a tree; returns its size in bytes, 0 if it is damaged. */
size_t huffman_read(struct huffman *huffman, const uint8_t *data, size_t size);

/* Decodes a stream of exactly `count` symbols. */
bool huffman_decode(const struct huffman *huffman, const uint8_t *data, size_t size, uint8_t *out,
                    size_t count);

#endif
