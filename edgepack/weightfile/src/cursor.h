/* Reading of numbers from bytes that are not trusted. Each function is false if the bytes end too early. */
#ifndef EDGEPACK_CURSOR_H
#define EDGEPACK_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cursor {
    const uint8_t *at, *end;
};

static inline bool take(struct cursor *cursor, uint64_t size, const uint8_t **bytes)
{
    if ((uint64_t)(cursor->end - cursor->at) < size)
        return false;
    *bytes = cursor->at;
    cursor->at += size;
    return true;
}

/* A little-endian number of a fixed size. */
static inline uint64_t number(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--)
        value = value << 8 | at[i];
    return value;
}

static inline bool take_number(struct cursor *cursor, int bytes, uint64_t *value)
{
    const uint8_t *at;
    if (!take(cursor, (uint64_t)bytes, &at))
        return false;
    *value = number(at, bytes);
    return true;
}

/* Seven bits a byte, the lowest first, up to 63 bits; also false if it is longer than it must be. */
static inline bool take_varint(struct cursor *cursor, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; shift < 63; shift += 7) {
        const uint8_t *byte;
        if (!take(cursor, 1, &byte))
            return false;
        *value |= (uint64_t)(*byte & 0x7f) << shift;
        if (!(*byte & 0x80))
            return shift == 0 || *byte != 0;
    }
    return false;
}

#endif
