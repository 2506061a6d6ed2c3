/* A stream of bits that is read from its end, as in Zstandard's entropy codes (RFC 8878, 4). */
#ifndef EDGEPACK_BITS_H
#define EDGEPACK_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bits {
    const uint8_t *begin;
    size_t size;  /* bytes */
    int64_t left; /* bits that were not taken yet; negative if more were taken than there are */
};

/* The highest bit that is set; `value` is not 0. */
static inline int highest_bit(uint32_t value)
{
    return 31 - __builtin_clz(value);
}

/* The last byte has a bit that marks the end. */
static inline bool bits_begin(struct bits *bits, const uint8_t *begin, size_t size)
{
    if (size == 0 || begin[size - 1] == 0)
        return false;
    *bits = (struct bits){begin, size, (int64_t)size * 8 - 8 + highest_bit(begin[size - 1])};
    return true;
}

/* The next `count` bits, at most 32, which stay; zeros follow the last ones. */
static inline uint32_t bits_see(const struct bits *bits, int count)
{
    int64_t from = bits->left - count;
    uint64_t value = 0;
    if (bits->left <= 0)
        return 0;
    size_t first = from > 0 ? (size_t)from / 8 : 0;
    if (first + sizeof value <= bits->size)
        memcpy(&value, bits->begin + first, sizeof value);
    else
        for (size_t i = 0; first + i < bits->size; i++)
            value |= (uint64_t)bits->begin[first + i] << (8 * i);
    value = from >= 0 ? value >> (from % 8) : value << -from;
    return (uint32_t)(value & (((uint64_t)1 << count) - 1));
}

static inline uint32_t bits_take(struct bits *bits, int count)
{
    uint32_t value = bits_see(bits, count);
    bits->left -= count;
    return value;
}

#endif
