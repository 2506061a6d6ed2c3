/* The weights file of a compiled model, as docs/bundle-format.md describes it. Nothing in it is trusted: a damaged
 * file is refused. Beside the weights, at most as much memory is used as the library says that they take, and as the
 * file takes. */
#ifndef EDGEPACK_WEIGHTFILE_H
#define EDGEPACK_WEIGHTFILE_H

#include "rans.h"

enum { WEIGHT_RANK = 16, WEIGHTS_PROBLEM = 512 };

/* What a library says about its weights file: the fields of the file's header that identify its contents. */
struct weights_identity {
    uint32_t count, index_crc;
    uint64_t raw_bytes;
};

/* Elements of `width` bytes, of one weight or several. */
struct block {
    bool coded;
    uint8_t width;
    uint64_t offset, stored_bytes, raw_bytes;
    uint32_t crc; /* of the raw bytes */
};

/* A weight's elements begin at `place` in those of its block. */
struct weight {
    uint8_t code, bits; /* the dtype as in DLPack */
    int rank;
    int64_t shape[WEIGHT_RANK];
    uint64_t block, place, raw_bytes;
};

struct weightfile {
    int descriptor;
    bool out_of_memory; /* the reason of a failure */
    uint32_t crc[8][256];
    uint32_t count;
    uint64_t blocks_count;
    struct weight *weights;
    struct block *blocks;
    struct tables tables;
    uint64_t shared; /* the block that `elements` holds, if any */
    uint8_t *elements;
};

/* Opens a file and reads its index. False with a problem if it is not valid, or not the one expected. */
bool weightfile_open(struct weightfile *file, const char *path, const struct weights_identity *expected,
                     char *problem);

/* Reads, decodes and checks the elements of a weight into `data`, of `raw_bytes` bytes. */
bool weightfile_read(struct weightfile *file, uint32_t index, void *data, char *problem);

/* Safe after weightfile_open has failed. */
void weightfile_close(struct weightfile *file);

#endif
