/* The weights file of a compiled model, as docs/bundle-format.md describes it. Nothing in it is trusted: a damaged
 * file is refused. It is mapped, so that what is not coded needs no memory of its own. */
#ifndef EDGEPACK_WEIGHTFILE_H
#define EDGEPACK_WEIGHTFILE_H

#include "crc32.h"
#include "rans.h"

enum { WEIGHT_RANK = 16, WEIGHTS_PROBLEM = 512, WEIGHT_ALIGNMENT = 64 };

/* Why a function has returned false. */
struct weights_problem {
    bool out_of_memory;
    char text[WEIGHTS_PROBLEM];
};

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
    uint32_t first; /* number of a weight in it; the file's count if there is none */
};

/* A weight's elements begin at `place` in those of its block. */
struct weight {
    uint8_t code, bits; /* the dtype as in DLPack */
    int rank;
    int64_t shape[WEIGHT_RANK];
    uint64_t block, place, raw_bytes;
    uint32_t next; /* another one in the block, or the file's count */
};

struct weightfile {
    const uint8_t *data;
    uint64_t size;
    void *mapped; /* a mapping of the file, or a copy of what was given, in memory of its own; NULL if neither */
    bool copied;
    struct crc32 crc32;
    uint32_t count;
    uint64_t blocks_count;
    struct weight *weights;
    struct block *blocks;
    struct tables tables;
};

/* Maps a file and reads its index. False with a problem if it is not valid, or not the one expected. */
bool weightfile_open(struct weightfile *file, const char *path, const struct weights_identity *expected,
                     struct weights_problem *problem);

/* Reads the index of a file that is in memory, which must stay there; it is copied if it is not aligned. */
bool weightfile_open_memory(struct weightfile *file, const void *data, uint64_t size,
                            const struct weights_identity *expected, struct weights_problem *problem);

/* Where the elements of a weight are in the file; NULL unless they are there as in memory, and aligned. They are to be
 * used only after their block has been checked. */
const uint8_t *weightfile_in_place(const struct weightfile *file, uint32_t index);

/* Checks a block, and puts the elements of weights number i that are in it where `homes[i]` says, if it is not NULL.
 * Several threads may do so at once. */
bool weightfile_read_block(const struct weightfile *file, uint64_t block, uint8_t *const *homes,
                           struct weights_problem *problem);

/* Lets the system take back the memory in which a block is mapped, if it needs it; the block can be read again. */
void weightfile_forget(const struct weightfile *file, uint64_t block);

/* Safe after weightfile_open has failed. */
void weightfile_close(struct weightfile *file);

#endif
