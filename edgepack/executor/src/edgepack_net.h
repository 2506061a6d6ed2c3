/* What a compiled model tells the runtime. */
#ifndef EDGEPACK_NET_H
#define EDGEPACK_NET_H

#include "edgepack.h"

enum { EDGEPACK_NET_VERSION = 2 };

/* Something that a CPU may lack: the mask's bits are set in a register after CPUID, and the state's in XCR0; on aarch64
 * in the entry `leaf` of the auxiliary vector. */
typedef struct {
    const char *name;
    uint32_t leaf, subleaf, reg, mask, state;
} edgepack_feature;

/* The runtime's. A model's kernels call the runtime that they are linked with. */
extern const char edgepack_runtime __attribute__((visibility("hidden")));

/* A weight of the weights file: its place in memory for weights or, in place of that, what is done with it. */
struct stored_weight {
    uint64_t size, place;
};

#define WEIGHT_IN_PLACE UINT64_MAX     /* it is read where the file is mapped */
#define WEIGHT_LATER (UINT64_MAX - 1) /* `load` fetches it, to decode it */

/* A weight as kernels read it: one of the file, or what `load` puts in a place. */
struct kept_weight {
    int64_t stored; /* number of the weight of the file; -1 if it is none */
    uint64_t place;
};

struct loading; /* while the weights are loaded: weights.c */

/* Sizes are in bytes; places are offsets from an address that is aligned to 64 bytes. */
struct net_details {
    const char *name;
    const char *runtime;
    const edgepack_feature *features; /* that kernels use; the last one has no name */
    int32_t input_count, output_count;
    const edgepack_tensor *inputs, *outputs;
    /* They return 0, or another number if memory for a kernel's own arrays cannot be had. */
    int32_t (*infer)(void *const *in, void *const *out, const uint8_t *const *weights, uint8_t *arena);
    int32_t (*profile)(void *const *in, void *const *out, const uint8_t *const *weights, uint8_t *arena,
                       uint64_t *times);
    /* Computes the weights that are not stored as they are. */
    int32_t (*load)(struct loading *loading, const uint8_t *const *stored, uint8_t *own, uint8_t *arena);
    int32_t kernel_count;
    const char *const *kernels; /* names, in the order of calls */
    uint64_t arena, arena_at_load, workspace; /* workspace: of each thread */
    uint64_t own, own_at_load;                /* memory for weights that are not used in place */
    uint32_t stored_count, weight_count;
    const struct stored_weight *stored;
    const struct kept_weight *kept;
    uint64_t stored_bytes; /* of all weights in the file, decoded */
    uint32_t index_crc;
    const uint8_t *embedded; /* the weights file, if it is in the library */
    uint64_t embedded_size;
};

/* Programs that are linked with a model's library have a copy of it, so that its size must never change. */
struct edgepack_net {
    uint64_t version;
    const struct net_details *details;
};

/* Functions that generated code calls. Sorts `[outer, count, inner]` along the middle and keeps the first `kept`: values,
 * or their indices, or both. Types are DLPack's codes; scratch has 32 bytes for each of `count`. Returns 0. */
int32_t edgepack_sort(const void *data, void *values, void *indices, void *scratch, int64_t outer, int64_t count,
                      int64_t inner, int64_t kept, int code, int bits, int index_code, int index_bits,
                      int ascending);

/* Reads a weight that is fetched into `room`, which it returns; NULL if that fails. */
const uint8_t *edgepack_fetch(struct loading *loading, uint32_t number, uint8_t *room);

#endif
