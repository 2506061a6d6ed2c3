/* Decimal numbers, without the C library's code for all others, which is larger than most of the agent. */
#ifndef EDGEPACK_DECIMAL_H
#define EDGEPACK_DECIMAL_H

#include <stdbool.h>

/* Reads digits with or without a fraction, such as 20 or 0.5; `*end` is what follows them. Right to the last bit up to 15
 * digits. False if there is no digit. */
bool decimal_parse(const char *text, const char **end, double *value);

#endif
