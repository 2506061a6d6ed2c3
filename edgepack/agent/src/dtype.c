#include "dtype.h"

#include <math.h>
#include <string.h>

static const struct dtype DTYPES[] = {
    {"float32", "<f4", {kDLFloat, 32, 1}, 4}, {"float16", "<f2", {kDLFloat, 16, 1}, 2},
    {"float64", "<f8", {kDLFloat, 64, 1}, 8}, {"int8", "|i1", {kDLInt, 8, 1}, 1},
    {"uint8", "|u1", {kDLUInt, 8, 1}, 1},     {"int16", "<i2", {kDLInt, 16, 1}, 2},
    {"uint16", "<u2", {kDLUInt, 16, 1}, 2},   {"int32", "<i4", {kDLInt, 32, 1}, 4},
    {"uint32", "<u4", {kDLUInt, 32, 1}, 4},   {"int64", "<i8", {kDLInt, 64, 1}, 8},
    {"uint64", "<u8", {kDLUInt, 64, 1}, 8},   {"bool", "|b1", {kDLBool, 8, 1}, 1},
};
enum { DTYPE_COUNT = sizeof DTYPES / sizeof DTYPES[0] };

static bool same(const char *word, const char *text, size_t length)
{
    return strlen(word) == length && memcmp(word, text, length) == 0;
}

const struct dtype *dtype_by_name(const char *name, size_t length)
{
    for (size_t i = 0; i < DTYPE_COUNT; i++)
        if (same(DTYPES[i].name, name, length))
            return &DTYPES[i];
    return NULL;
}

const struct dtype *dtype_by_npy(const char *name, size_t length)
{
    for (size_t i = 0; i < DTYPE_COUNT; i++) {
        const char *npy = DTYPES[i].npy;
        /* numpy writes '|' if byte order does not apply, and accepts '<', too. */
        if (same(npy, name, length) ||
            (npy[0] == '|' && length == 3 && name[0] == '<' && memcmp(npy + 1, name + 1, 2) == 0))
            return &DTYPES[i];
    }
    return NULL;
}

const struct dtype *dtype_by_dl(DLDataType dl)
{
    for (size_t i = 0; i < DTYPE_COUNT; i++)
        if (DTYPES[i].dl.code == dl.code && DTYPES[i].dl.bits == dl.bits && DTYPES[i].dl.lanes == dl.lanes)
            return &DTYPES[i];
    return NULL;
}

bool tensor_type_complete(struct tensor_type *type, struct failure *failure)
{
    type->size = type->dtype->size;
    for (int i = 0; i < type->rank; i++) {
        if (type->shape[i] < 0)
            return fail(failure, STATUS_INPUT, "dimension %d of the shape is negative", i);
        if (__builtin_mul_overflow(type->size, (size_t)type->shape[i], &type->size) ||
            type->size > PTRDIFF_MAX)
            return fail(failure, STATUS_INPUT, "the shape has too many elements");
    }
    return true;
}

bool tensor_type_parse(const char *text, size_t length, struct tensor_type *type, struct failure *failure)
{
    const char *end = text + length;
    const char *colon = memchr(text, ':', length);
    *type = (struct tensor_type){0};
    if (colon == NULL)
        return fail(failure, STATUS_INPUT, "'%.*s' is not DTYPE:DIMxDIM, e.g. float32:1x3x224x224",
                    (int)length, text);
    type->dtype = dtype_by_name(text, (size_t)(colon - text));
    if (type->dtype == NULL)
        return fail(failure, STATUS_INPUT, "'%.*s' is not a supported dtype", (int)(colon - text), text);
    for (const char *at = colon + 1; at < end; at++) {
        int64_t dimension = 0;
        if (type->rank == MAX_RANK)
            return fail(failure, STATUS_INPUT, "'%.*s' has more than %d dimensions", (int)length, text,
                        MAX_RANK);
        if (*at < '0' || *at > '9')
            return fail(failure, STATUS_INPUT, "'%.*s' has a dimension that is not a number", (int)length,
                        text);
        for (; at < end && *at >= '0' && *at <= '9'; at++)
            if (__builtin_mul_overflow(dimension, 10, &dimension) ||
                __builtin_add_overflow(dimension, *at - '0', &dimension))
                return fail(failure, STATUS_INPUT, "'%.*s' has a dimension that is too large", (int)length,
                            text);
        if (at < end && (*at != 'x' || at + 1 == end))
            return fail(failure, STATUS_INPUT, "'%.*s' does not separate its dimensions with x", (int)length,
                        text);
        type->shape[type->rank++] = dimension;
    }
    return tensor_type_complete(type, failure);
}

/* 1 for Inf, 2 for NaN, 0 for a finite half-precision number. */
static int classify_half(uint16_t bits)
{
    if ((bits & 0x7C00) != 0x7C00)
        return 0;
    return (bits & 0x03FF) == 0 ? 1 : 2;
}

static int classify(const struct dtype *dtype, const char *at)
{
    uint16_t half;
    float single;
    double twice;
    switch (dtype->size) {
    case 2: memcpy(&half, at, 2); return classify_half(half);
    case 4: memcpy(&single, at, 4); return isnan(single) ? 2 : isinf(single) ? 1 : 0;
    default: memcpy(&twice, at, 8); return isnan(twice) ? 2 : isinf(twice) ? 1 : 0;
    }
}

void count_not_finite(const struct dtype *dtype, const void *data, size_t size, int64_t *nan, int64_t *inf)
{
    *nan = *inf = 0;
    if (dtype->dl.code != kDLFloat)
        return;
    for (const char *at = data, *end = at + size; at < end; at += dtype->size) {
        int kind = classify(dtype, at);
        *nan += kind == 2;
        *inf += kind == 1;
    }
}

/* k/8 for k in -8..8 as IEEE 754 half precision. */
static uint16_t eighths_as_half(int k)
{
    static const uint16_t MAGNITUDE[] = {0x0000, 0x3000, 0x3400, 0x3600, 0x3800,
                                         0x3900, 0x3A00, 0x3B00, 0x3C00};
    return (uint16_t)(k < 0 ? 0x8000 | MAGNITUDE[-k] : MAGNITUDE[k]);
}

static void fill_float(const struct dtype *dtype, char *at, uint32_t random)
{
    int eighths = (int)(random % 17) - 8;
    uint16_t half = eighths_as_half(eighths);
    float single = (float)eighths / 8;
    double twice = (double)eighths / 8;
    memcpy(at,
           dtype->size == 2   ? (void *)&half
           : dtype->size == 4 ? (void *)&single
                              : (void *)&twice,
           dtype->size);
}

static void fill_integer(const struct dtype *dtype, char *at, uint32_t random)
{
    if (dtype->dl.code == kDLInt && dtype->size == 1)
        *(int8_t *)at = (int8_t)((int)(random % 16) - 8);
    else if (dtype->dl.code == kDLUInt && dtype->size == 1)
        *(uint8_t *)at = (uint8_t)(random % 16);
    else
        *at = (char)(random & 1); /* little-endian; the other bytes are zero */
}

void fill_reproducible(const struct tensor_type *type, void *data, uint64_t seed)
{
    const struct dtype *dtype = type->dtype;
    uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
    memset(data, 0, type->size);
    for (char *at = data, *end = at + type->size; at < end; at += dtype->size) {
        state = state * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX generator */
        uint32_t random = (uint32_t)(state >> 33);
        if (dtype->dl.code == kDLFloat)
            fill_float(dtype, at, random);
        else
            fill_integer(dtype, at, random);
    }
}

bool tensor_type_of(struct tensor_type *type, DLDataType element, int rank, const int64_t *shape,
                    struct failure *failure)
{
    *type = (struct tensor_type){.dtype = dtype_by_dl(element), .rank = rank};
    if (type->dtype == NULL)
        return fail(failure, STATUS_MODEL, "an output dtype (code %d, %d bits) is not supported by .npy",
                    element.code, element.bits);
    if (rank > MAX_RANK)
        return fail(failure, STATUS_MODEL, "an output has %d dimensions, more than %d", rank, MAX_RANK);
    memcpy(type->shape, shape, (size_t)rank * sizeof shape[0]);
    return tensor_type_complete(type, failure);
}
