/* What a compiled model tells the runtime. */
#ifndef EDGEPACK_NET_H
#define EDGEPACK_NET_H

#include "edgepack.h"

enum { EDGEPACK_NET_VERSION = 1 };

/* Sizes are in bytes; places are offsets from an address that is aligned to 64 bytes. */
struct edgepack_net {
    uint32_t version;
    const char *name;
    int32_t input_count, output_count;
    const edgepack_tensor *inputs, *outputs;
    /* Both return 0, or another number if memory for a kernel's own arrays cannot be had. */
    int32_t (*infer)(void *const *in, void *const *out, const uint8_t *weights, uint8_t *arena);
    int32_t (*load)(uint8_t *weights, uint8_t *arena); /* computes the weights that are not stored as they are */
    uint64_t arena, arena_at_load, workspace, weights, weights_at_load; /* workspace: of each thread */
    uint32_t stored_count;
    const uint64_t *stored; /* the place of each weight of the file */
    uint64_t stored_bytes;
    uint32_t index_crc;
};

/* Functions that generated code calls. Sorts `[outer, count, inner]` along the middle and keeps the first `kept`: values,
 * or their indices, or both. Types are DLPack's codes; scratch has 32 bytes for each of `count`. Returns 0. */
int32_t edgepack_sort(const void *data, void *values, void *indices, void *scratch, int64_t outer, int64_t count,
                      int64_t inner, int64_t kept, int code, int bits, int index_code, int index_bits,
                      int ascending);

#endif
