/* Decoding of the entropy code of weights: range asymmetric numeral systems (J. Duda, Asymmetric numeral systems:
 * entropy coding combining speed of Huffman coding with compression rate of arithmetic coding, 2013), order 0, on bytes.
 * The form is in docs/bundle-format.md. */
#ifndef EDGEPACK_RANS_H
#define EDGEPACK_RANS_H

#include "frequencies.h"

/* The tables that codes refer to, from 1. */
struct tables {
    uint32_t count;
    struct frequencies *all;
};

/* Decodes `count` elements of `width` bytes from exactly `size` bytes of code into `out`, which has room for them.
 * False if the code is not well-formed; `out` then has unspecified contents. */
bool rans_decode(const uint8_t *code, size_t size, const struct tables *tables, uint8_t *out, size_t count,
                 size_t width);

#endif
