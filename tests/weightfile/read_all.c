/* Reads weights files as a model does: each line of stdin is FILE COUNT CRC RAW_BYTES. For each, a line STATUS SIZE is
 * written to stdout, followed by the elements of all weights if STATUS is 0, or by what is wrong if it is 1. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weightfile.h"

enum { LARGEST = 1 << 24 };
static char elements[LARGEST];

int main(void)
{
    static char path[4096];
    struct weights_identity identity;
    while (scanf("%4095s %" SCNu32 " %" SCNu32 " %" SCNu64, path, &identity.count, &identity.index_crc,
                 &identity.raw_bytes) == 4) {
        char problem[WEIGHTS_PROBLEM] = "";
        struct weightfile file;
        size_t total = 0;
        bool good = weightfile_open(&file, path, &identity, problem);
        for (uint32_t i = 0; good && i < file.count; i++) {
            const size_t size = file.weights[i].raw_bytes;
            if (size > LARGEST - total)
                return 2;
            void *data = malloc(size); /* exactly: the sanitizer reports one byte more */
            good = (data != NULL || size == 0) && weightfile_read(&file, i, data, problem);
            if (good && size > 0)
                memcpy(elements + total, data, size);
            total += size;
            free(data);
        }
        weightfile_close(&file);
        if (!good)
            total = strlen(problem);
        printf("%d %zu\n", good ? 0 : 1, total);
        fwrite(good ? elements : problem, 1, total, stdout);
    }
    return 0;
}
