/* Shared by the files of the emulated driver and runtime. */
#ifndef EDGEPACK_EMULATION_GPU_H
#define EDGEPACK_EMULATION_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "launch.h"

/* CUDA's error numbers, the same in the driver and the runtime API. */
enum {
    CUDA_OK = 0,
    CUDA_INVALID_VALUE = 1,
    CUDA_OUT_OF_MEMORY = 2,
    CUDA_NOT_INITIALIZED = 3,
    CUDA_INVALID_COPY_DIRECTION = 21,
    CUDA_NO_DEVICE = 100,
    CUDA_INVALID_DEVICE = 101,
    CUDA_NO_BINARY_FOR_GPU = 209,
    CUDA_INVALID_IMAGE = 200,
    CUDA_FILE_NOT_FOUND = 301,
    CUDA_NOT_FOUND = 500,
    CUDA_ILLEGAL_ADDRESS = 700,
    CUDA_LAUNCH_OUT_OF_RESOURCES = 701,
    CUDA_MISALIGNED_ADDRESS = 716,
    CUDA_LAUNCH_FAILED = 719,
    CUDA_NOT_SUPPORTED = 801,
    CUDA_UNKNOWN = 999,
};

enum order { ORDER_FORWARD, ORDER_REVERSE, ORDER_RANDOM };

/* The emulated GPU, from $EDGEPACK_GPU/gpu.conf. */
struct gpu {
    char folder[4096];
    char name[256];
    int major, minor; /* compute capability */
    uint64_t memory;  /* bytes */
    int multiprocessors;
    enum order order; /* of threads in a block, and of blocks */
    uint64_t seed;    /* of ORDER_RANDOM */
    bool hang;        /* a fault: kernels never end */
    uint64_t reset;   /* a fault: the device is lost at this launch; 0 for never */
    bool present;
};

/* Read once; `present` is false if there is no such file or it plays a machine without a GPU. */
const struct gpu *gpu(void);

/* --- errors.c: the error state of the device ------------------------------------------------------------- */

/* Records why the last call failed, for the texts of the error, and returns `error`. */
__attribute__((format(printf, 2, 3))) int gpu_error(int error, const char *format, ...);
/* The same for an error of a kernel, after which every call fails as on a GPU. Only the first one counts. */
__attribute__((format(printf, 2, 3))) void gpu_poison(int error, const char *format, ...);
int gpu_poisoned(void);
const char *gpu_error_name(int error);
const char *gpu_error_text(int error);

/* --- memory.c: device memory ----------------------------------------------------------------------------- */

int memory_allocate(void **device, size_t size);
int memory_free(void *device);
uint64_t memory_used(void);
/* The host's address of `size` bytes of device memory; NULL unless they lie in one allocation. */
void *memory_at(const void *device, size_t size);
/* Whether it is an address of device memory, allocated or not. */
bool memory_is_device(const void *address);
/* The address that a kernel uses for a device pointer; others are unchanged, and fail when they are used. */
void *memory_for_kernel(void *device);
/* Copies all allocations, for `memory_restore` and `memory_difference`; NULL if there is no memory for it. */
void *memory_snapshot(void);
void memory_restore(const void *snapshot);
/* Describes the first byte in which the allocations differ from the snapshot; false if none does. */
bool memory_difference(const void *snapshot, char *text, size_t size);
void memory_discard(void *snapshot);
/* Page-locked memory of the host, which kernels may use. */
int memory_allocate_host(void **host, size_t size);
int memory_free_host(void *host);

/* Checks an access of a kernel: NULL if it is allowed, else why not, in `text`. */
const char *memory_fault(uintptr_t address, size_t size, char *text, size_t text_size);

/* Tell the address sanitizer, if a test has preloaded it, which memory kernels may use. */
void memory_allow(uintptr_t start, size_t size);
void memory_forbid(uintptr_t start, size_t size);

/* For `struct emu_bounds`. */
extern uintptr_t memory_base; /* kernels' addresses begin here */
extern size_t memory_span;
extern const uint32_t *memory_owner;
extern const uintptr_t *memory_limits;

/* --- run.c: kernels -------------------------------------------------------------------------------------- */

struct launch {
    const struct emu_kernel *kernel;
    const char *name;
    struct emu_index grid, block;
    size_t dynamic_shared, shared_limit;
    void **parameters;
    uintptr_t constants, constants_end; /* the module's own data */
    enum order order;
    uint64_t seed;
};

/* Runs all blocks. Faults are recorded with `gpu_poison`. */
void run_launch(const struct launch *launch);
/* The same on one thread of the host, block after block in the launch's order. */
void run_launch_in_order(const struct launch *launch);

/* Ends the kernel with another error than CUDA_LAUNCH_FAILED. */
__attribute__((noreturn, format(printf, 2, 3))) void emu_fault_with(int error, const char *format, ...);

/* --- signals.c ------------------------------------------------------------------------------------------- */

/* From now on, signals that kernels and wrong uses of device memory cause are explained. */
void signals_catch(void);
/* Gives the calling thread a stack for signals, unless it has one: that of a kernel's thread may be full. */
void signals_own_stack(void);

/* --- sha256.c -------------------------------------------------------------------------------------------- */

void sha256_hex(const void *data, size_t size, char hex[65]);

#endif
