/* Element types and shapes of .npy files and argument specs. */
#ifndef EDGEPACK_DTYPE_H
#define EDGEPACK_DTYPE_H

#include <dlpack/dlpack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fail.h"

enum { MAX_RANK = 8 };

struct dtype {
    const char *name; /* "float32": name in recipes */
    const char *npy;  /* "<f4": numpy's name, little-endian */
    DLDataType dl;
    size_t size; /* bytes per element */
};

struct tensor_type {
    const struct dtype *dtype;
    int rank;
    int64_t shape[MAX_RANK];
    size_t size; /* bytes in total */
};

const struct dtype *dtype_by_name(const char *name, size_t length);
const struct dtype *dtype_by_npy(const char *name, size_t length);
const struct dtype *dtype_by_dl(DLDataType dl);

/* Computes `type->size`; false when a dimension is negative or the product does not fit. */
bool tensor_type_complete(struct tensor_type *type, struct failure *failure);

/* An output's type; false if an .npy file cannot hold it. */
bool tensor_type_of(struct tensor_type *type, DLDataType element, int rank, const int64_t *shape,
                    struct failure *failure);

/* Parses "float32:1x3x224x224"; "float32:" is a scalar. */
bool tensor_type_parse(const char *text, size_t length, struct tensor_type *type, struct failure *failure);

/* Counts NaN and Inf among `size` bytes of elements; both stay 0 for integers. */
void count_not_finite(const struct dtype *dtype, const void *data, size_t size, int64_t *nan, int64_t *inf);

/* Fills `data` with reproducible values: floats are multiples of 1/8 in [-1, 1], so that none is
 * denormal; int8 is -8..7, uint8 0..15, wider integers and bool are 0 or 1, so that they are valid as
 * indices. */
void fill_reproducible(const struct tensor_type *type, void *data, uint64_t seed);

#endif
