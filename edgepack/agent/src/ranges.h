/* The valid ranges of inputs that a model uses as indices, which its library states as text. */
#ifndef EDGEPACK_RANGES_H
#define EDGEPACK_RANGES_H

#include "dtype.h"

/* Fails if `data`, an input's elements from the file `path`, has a value outside the range that
 * `ranges` states for input number `input`.
 *
 * `ranges` has a line per input: its number, the smallest and largest index, its name. NULL, which
 * libraries of older versions have, states none. */
bool check_range(const char *ranges, int input, const struct tensor_type *type, const void *data,
                 const char *path, struct failure *failure);

#endif
