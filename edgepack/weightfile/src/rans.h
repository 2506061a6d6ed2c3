/* Decoding of the entropy code of weights: range asymmetric numeral systems (J. Duda, Asymmetric numeral systems:
 * entropy coding combining speed of Huffman coding with compression rate of arithmetic coding, 2013), order 0, on bytes.
 * The form is in docs/bundle-format.md. */
#ifndef EDGEPACK_RANS_H
#define EDGEPACK_RANS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decodes `count` elements of `width` bytes from exactly `size` bytes of code into `out`, which has room for them.
 * False if the code is not well-formed; `out` then has unspecified contents. */
bool rans_decode(const uint8_t *code, size_t size, uint8_t *out, size_t count, size_t width);

#endif
