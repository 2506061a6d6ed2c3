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
        struct weights_problem problem = {0};
        struct weightfile file;
        size_t total = 0;
        bool good = weightfile_open(&file, path, &identity, &problem);
        uint8_t **homes = calloc(good ? (size_t)file.count + 1 : 1, sizeof *homes);
        if (homes == NULL)
            return 2;
        for (uint32_t i = 0; good && i < file.count; i++) {
            const size_t size = file.weights[i].raw_bytes;
            if (size > LARGEST - total)
                return 2;
            homes[i] = malloc(size); /* exactly: the sanitizer reports one byte more */
            total += size;
        }
        for (uint64_t block = 0; good && block < file.blocks_count; block++) {
            good = weightfile_read_block(&file, block, homes, &problem);
            weightfile_forget(&file, block); /* loses nothing */
        }
        total = 0;
        for (uint32_t i = 0; good && i < file.count; i++) {
            const size_t size = file.weights[i].raw_bytes;
            const uint8_t *in_place = weightfile_in_place(&file, i);
            if (size > 0 && in_place != NULL && memcmp(in_place, homes[i], size) != 0)
                return 3;
            if (size > 0)
                memcpy(elements + total, homes[i], size);
            total += size;
        }
        for (uint32_t i = 0; homes[i] != NULL; i++) /* the last one is NULL */
            free(homes[i]);
        free(homes);
        weightfile_close(&file);
        if (!good)
            total = strlen(problem.text);
        printf("%d %zu\n", good ? 0 : 1, total);
        fwrite(good ? elements : problem.text, 1, total, stdout);
    }
    return 0;
}
