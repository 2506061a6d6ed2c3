/* Tables of frequencies of byte values, as docs/bundle-format.md describes them. */
#ifndef EDGEPACK_FREQUENCIES_H
#define EDGEPACK_FREQUENCIES_H

#include "cursor.h"

enum { SCALE_BITS = 12, SCALE = 1 << SCALE_BITS, VALUES = 256 };

/* The frequencies add up to SCALE. */
struct frequencies {
    uint16_t of[VALUES];
};

/* Reads a table. False if it is not valid. */
bool take_frequencies(struct cursor *cursor, struct frequencies *table);

#endif
