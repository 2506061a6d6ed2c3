/* Prints the SHA-256 of stdin, which arrives in pieces of all sizes. */
#include <stdio.h>

#include "sha256.h"

int main(void)
{
    static char buffer[1 << 16];
    struct sha256 sum;
    char hex[SHA256_HEX];
    size_t count, size = 1;
    sha256_begin(&sum);
    while ((count = fread(buffer, 1, size, stdin)) > 0) {
        sha256_add(&sum, buffer, count);
        size = size * 3 % sizeof buffer + 1;
    }
    sha256_end(&sum, hex);
    puts(hex);
    return 0;
}
