/* The weights file of a compiled model, as docs/bundle-format.md describes it. Nothing in it is trusted: a damaged
 * file is refused, and takes no more memory than the library says that its weights do. */
#ifndef EDGEPACK_WEIGHTFILE_H
#define EDGEPACK_WEIGHTFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WEIGHT_RANK = 16, WEIGHTS_PROBLEM = 512 };

/* What a library says about its weights file: the fields of the file's header that identify its contents. */
struct weights_identity {
    uint32_t count, index_crc;
    uint64_t raw_bytes;
};

struct weight {
    uint8_t code, bits, coding; /* the dtype as in DLPack */
    int rank;
    int64_t shape[WEIGHT_RANK];
    uint64_t offset, stored_bytes, raw_bytes;
    uint32_t crc; /* of the raw bytes */
};

struct weightfile {
    int descriptor;
    uint32_t count;
    struct weight *weights;
};

/* Opens a file and reads its index. False with a problem if it is not valid, or not the one expected. */
bool weightfile_open(struct weightfile *file, const char *path, const struct weights_identity *expected,
                     char *problem);

/* Reads, decodes and checks the elements of a weight into `data`, of `raw_bytes` bytes. */
bool weightfile_read(const struct weightfile *file, uint32_t index, void *data, char *problem);

/* Safe after weightfile_open has failed. */
void weightfile_close(struct weightfile *file);

#endif
