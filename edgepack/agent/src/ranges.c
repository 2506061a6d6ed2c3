#include "ranges.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct range {
    int64_t low, high;
    const char *name;
    int name_length;
};

/* Finds the line of an input; false if there is none. */
static bool find_range(const char *line, int input, struct range *range)
{
    for (; line != NULL && *line != '\0'; line = strchr(line, '\n'), line += line != NULL) {
        char *end;
        const long number = strtol(line, &end, 10);
        range->low = strtoll(end, &end, 10);
        range->high = strtoll(end, &end, 10);
        if (number == input && *end == ' ') {
            range->name = end + 1;
            range->name_length = (int)strcspn(range->name, "\n");
            return true;
        }
    }
    return false;
}

/* Element number `i`; unsigned values beyond int64 become its largest value. False if it is no integer. */
static bool element(const struct dtype *dtype, const char *data, size_t i, int64_t *value)
{
    const char *at = data + i * dtype->size;
    uint64_t bits = 0; /* little-endian, as everything here */
    int unused = 64 - 8 * (int)dtype->size;
    memcpy(&bits, at, dtype->size);
    if (dtype->dl.code == kDLInt)
        *value = (int64_t)(bits << unused) >> unused;
    else if (dtype->dl.code == kDLUInt)
        *value = bits > INT64_MAX ? INT64_MAX : (int64_t)bits;
    else
        return false;
    return true;
}

bool check_range(const char *ranges, int input, const struct tensor_type *type, const void *data,
                 const char *path, struct failure *failure)
{
    struct range range;
    int64_t value;
    if (!find_range(ranges, input, &range))
        return true;
    for (size_t i = 0; i < type->size / type->dtype->size; i++)
        if (element(type->dtype, data, i, &value) && (value < range.low || value > range.high))
            return fail(failure, STATUS_INPUT,
                        "%s: index %" PRId64 " (element %zu of '%.*s') is out of range: must be %" PRId64
                        " to %" PRId64,
                        path, value, i, range.name_length, range.name, range.low, range.high);
    return true;
}
