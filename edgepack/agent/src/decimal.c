#include "decimal.h"

bool decimal_parse(const char *text, const char **end, double *value)
{
    double number = 0, scale = 1;
    bool digits = false, fraction = false;
    for (; (*text >= '0' && *text <= '9') || (*text == '.' && !fraction); text++) {
        if (*text == '.') {
            fraction = true;
            continue;
        }
        digits = true;
        number = number * 10 + (*text - '0');
        scale = fraction ? scale * 10 : scale;
    }
    *end = text;
    *value = number / scale;
    return digits;
}
