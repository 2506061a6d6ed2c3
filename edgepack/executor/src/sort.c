/* Sorting along an axis: keys of 64 bits that are ordered as the values, each with its index. Equal values stay in their
 * order, -0 is equal to 0, and NaN is larger than every number. */
#include "edgepack_net.h"

#include <stdbool.h>
#include <string.h>

struct pair {
    uint64_t key;
    int64_t index;
};

enum { SIGNED = 0, UNSIGNED = 1, FLOAT = 2, BFLOAT = 4, FEW = 32, RUN = 8 };

static uint64_t load(const void *data, int bits, size_t i)
{
    if (bits == 8)
        return ((const uint8_t *)data)[i];
    if (bits == 16)
        return ((const uint16_t *)data)[i];
    return bits == 32 ? ((const uint32_t *)data)[i] : ((const uint64_t *)data)[i];
}

/* A number that is larger the larger the value is. */
static uint64_t key_of(uint64_t value, int code, int bits)
{
    const uint64_t sign = (uint64_t)1 << (bits - 1), all = sign | (sign - 1);
    if (code == SIGNED)
        return value ^ sign;
    if (code != FLOAT && code != BFLOAT)
        return value;
    const int mantissa = code == BFLOAT ? 7 : bits == 16 ? 10 : bits == 32 ? 23 : 52;
    const uint64_t infinity = (sign - 1) >> mantissa << mantissa, magnitude = value & (sign - 1);
    if (magnitude > infinity)
        return all; /* NaN */
    return magnitude == 0 ? sign : value & sign ? ~value & all : value | sign;
}

static bool before(struct pair a, struct pair b)
{
    return a.key < b.key;
}

static void insertion_sort(struct pair *pairs, int64_t count)
{
    for (int64_t i = 1; i < count; i++) {
        const struct pair own = pairs[i];
        int64_t place = i;
        for (; place > 0 && before(own, pairs[place - 1]); place--)
            pairs[place] = pairs[place - 1];
        pairs[place] = own;
    }
}

static void merge(const struct pair *left, const struct pair *middle, const struct pair *end, struct pair *out)
{
    const struct pair *right = middle, *first = left;
    while (first < middle && right < end)
        *out++ = before(*right, *first) ? *right++ : *first++;
    memcpy(out, first, (size_t)(middle - first) * sizeof *out);
    out += middle - first;
    memcpy(out, right, (size_t)(end - right) * sizeof *out);
}

/* Returns where the sorted pairs are: in `pairs` or in `other`. */
static struct pair *merge_sort(struct pair *pairs, struct pair *other, int64_t count)
{
    for (int64_t i = 0; i < count; i += RUN)
        insertion_sort(pairs + i, count - i < RUN ? count - i : RUN);
    for (int64_t width = RUN; width < count; width *= 2) {
        for (int64_t i = 0; i < count; i += 2 * width) {
            const int64_t middle = i + width < count ? i + width : count;
            const int64_t end = middle + width < count ? middle + width : count;
            merge(pairs + i, pairs + middle, pairs + end, other + i);
        }
        struct pair *sorted = other;
        other = pairs;
        pairs = sorted;
    }
    return pairs;
}

/* Keeps the first `kept` of all pairs in order, while they are added one by one. */
static int64_t add(struct pair *first, int64_t count, int64_t kept, struct pair own)
{
    if (count == kept && !before(own, first[count - 1]))
        return count;
    int64_t place = count < kept ? count : count - 1;
    for (; place > 0 && before(own, first[place - 1]); place--)
        first[place] = first[place - 1];
    first[place] = own;
    return count < kept ? count + 1 : count;
}

static void store_index(void *out, int code, int bits, size_t i, int64_t index)
{
    if (code == FLOAT && bits == 32)
        ((float *)out)[i] = (float)index;
    else if (code == FLOAT)
        ((double *)out)[i] = (double)index;
    else if (bits == 32)
        ((int32_t *)out)[i] = (int32_t)index;
    else
        ((int64_t *)out)[i] = index;
}

int32_t edgepack_sort(const void *data, void *values, void *indices, void *scratch, int64_t outer, int64_t count,
                      int64_t inner, int64_t kept, int code, int bits, int index_code, int index_bits,
                      int ascending)
{
    struct pair *pairs = scratch, *other = pairs + count;
    const size_t size = (size_t)bits / 8;
    if (kept == 0)
        return 0;
    for (int64_t row = 0; row < outer * inner; row++) {
        const size_t start = (size_t)(row / inner * count * inner + row % inner);
        const size_t target = (size_t)(row / inner * kept * inner + row % inner);
        int64_t found = 0;
        for (int64_t i = 0; i < count; i++) {
            const uint64_t key = key_of(load(data, bits, start + (size_t)(i * inner)), code, bits);
            const struct pair own = {ascending ? key : ~key, i};
            if (kept <= FEW)
                found = add(pairs, found, kept, own);
            else
                pairs[i] = own;
        }
        const struct pair *sorted = kept <= FEW ? pairs : merge_sort(pairs, other, count);
        for (int64_t i = 0; i < kept; i++) {
            const size_t to = target + (size_t)(i * inner);
            if (values != NULL)
                memcpy((char *)values + to * size,
                       (const char *)data + (start + (size_t)(sorted[i].index * inner)) * size, size);
            if (indices != NULL)
                store_index(indices, index_code, index_bits, to, sorted[i].index);
        }
    }
    return 0;
}
