/* What a compiled model tells the runtime. */
#ifndef EDGEPACK_NET_H
#define EDGEPACK_NET_H

#include "edgepack.h"

enum { EDGEPACK_NET_VERSION = 1 };

/* Something that a CPU may lack: the mask's bits are set in a register after CPUID, and the state's in XCR0; on aarch64
 * in the entry `leaf` of the auxiliary vector. */
typedef struct {
    const char *name;
    uint32_t leaf, subleaf, reg, mask, state;
} edgepack_feature;

/* The runtime's. A model's kernels call the runtime that they are linked with. */
extern const char edgepack_runtime __attribute__((visibility("hidden")));

/* Sizes are in bytes; places are offsets from an address that is aligned to 64 bytes. */
struct net_details {
    const char *name;
    const char *runtime;
    const edgepack_feature *features; /* that kernels use; the last one has no name */
    int32_t input_count, output_count;
    const edgepack_tensor *inputs, *outputs;
    /* They return 0, or another number if memory for a kernel's own arrays cannot be had. */
    int32_t (*infer)(void *const *in, void *const *out, const uint8_t *weights, uint8_t *arena);
    int32_t (*profile)(void *const *in, void *const *out, const uint8_t *weights, uint8_t *arena, uint64_t *times);
    int32_t (*load)(uint8_t *weights, uint8_t *arena); /* computes the weights that are not stored as they are */
    int32_t kernel_count;
    const char *const *kernels; /* names, in the order of calls */
    uint64_t arena, arena_at_load, workspace, weights, weights_at_load; /* workspace: of each thread */
    uint32_t stored_count;
    const uint64_t *stored; /* the place of each weight of the file */
    uint64_t stored_bytes;
    uint32_t index_crc;
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

#endif
