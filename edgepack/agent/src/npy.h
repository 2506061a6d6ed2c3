/* Reading and writing numpy's .npy files, format versions 1 to 3, C order, little-endian.
 * https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
#ifndef EDGEPACK_NPY_H
#define EDGEPACK_NPY_H

#include <stdio.h>

#include "dtype.h"

struct npy {
    FILE *file;
    const char *path;
    struct tensor_type type;
};

/* Parses the header dictionary, e.g. {'descr': '<f4', 'fortran_order': False, 'shape': (1, 64), }. */
bool npy_parse_header(const char *text, size_t length, struct tensor_type *type, struct failure *failure);

/* Opens `path`, parses its header and checks that the file holds all of its data. */
bool npy_open(struct npy *npy, const char *path, struct failure *failure);

/* Reads the next `size` bytes of elements. */
bool npy_read(struct npy *npy, void *data, size_t size, struct failure *failure);

/* Creates `path` with a header for `type`; elements follow through npy_write. */
bool npy_create(struct npy *npy, const char *path, const struct tensor_type *type, struct failure *failure);
bool npy_write(struct npy *npy, const void *data, size_t size, struct failure *failure);

/* Closes the file; false when buffered data could not be written. Safe on a zeroed struct. */
bool npy_close(struct npy *npy, struct failure *failure);

#endif
