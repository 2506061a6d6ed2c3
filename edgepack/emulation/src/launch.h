/* What a kernel module and the emulated driver know of each other.
 *
 * A module is a shared library made from one CUDA source: for every kernel NAME it exports a `struct emu_kernel`
 * called NAME__emu. The driver (libcuda.so.1) finds it, runs its threads in blocks, and provides the functions below. */
#ifndef EDGEPACK_EMULATION_LAUNCH_H
#define EDGEPACK_EMULATION_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    EMU_WARP = 32,
    EMU_MAX_THREADS = 1024,       /* of a block, every compute capability so far */
    EMU_MAX_PARAMETERS = 4096 / 8, /* of a kernel: 4 KiB of parameters */
    EMU_STACK_SIZE = 512 << 10,    /* CUDA's limit of local memory per thread */
    EMU_GRANULE_SHIFT = 9,
    EMU_MAX_SHARED_ARRAYS = 32
};

struct emu_index {
    uint32_t x, y, z;
};

/* One CUDA thread while it runs. */
struct emu_thread {
    struct emu_index thread, block, block_size, grid_size;
    uint32_t number; /* in its block: x + block_size.x * (y + block_size.y * z) */
};

/* A kernel of a module.
 *
 * A kernel that never waits for other threads has no fibers: `run_block` runs the threads of one block in a loop, in
 * the order `order`, or in ascending order if that is NULL. Others are started thread by thread with `run_thread`. */
struct emu_kernel {
    void (*run_thread)(struct emu_thread *self, void *const *parameters);
    void (*run_block)(struct emu_thread *self, void *const *parameters, const uint32_t *order);
    uint32_t parameter_count;
    uint32_t max_threads;           /* from __launch_bounds__; 0 if there is none */
    const uint8_t *parameter_sizes; /* in bytes */
    const uint8_t *is_pointer;      /* per parameter, 1 for a pointer to device memory */
};

/* What a kernel may use, per thread of the host: the fast path of the checks, see checks.h. */
struct emu_bounds {
    uintptr_t memory;       /* where device memory begins */
    size_t memory_size;     /* and its size; 0 where nothing is checked */
    const uint32_t *owner;  /* of each granule of device memory: its allocation */
    const uintptr_t *limit; /* of each allocation: its end; 0 if it was freed */
    uintptr_t stack;        /* of the thread that runs */
    uintptr_t slots, slots_end;
    int array_count; /* shared arrays of the block */
    struct {
        uintptr_t start, end;
    } arrays[EMU_MAX_SHARED_ARRAYS];
};
extern __thread struct emu_bounds emu_bounds;

/* What the fast path does not allow: ends the kernel with an error, unless the access is one of the rare good ones. */
void emu_check_slowly(uintptr_t address, size_t size, bool write);
__attribute__((noreturn)) void emu_misaligned(size_t size, bool write);

/* An index beyond an array, at a place that the compiler describes or NULL; an integer's division by zero. */
__attribute__((noreturn)) void emu_outside(const void *place, uintptr_t index);
__attribute__((noreturn)) void emu_division(const void *place);

/* The thread that runs now. */
struct emu_thread *emu_self(void);

/* __syncthreads(): returns when all threads of the block have called it from the same `site`, a line of the source. */
void emu_barrier(int site);

/* Returns when all threads in `mask` of the caller's warp have called it with the same site. */
void emu_warp_barrier(uint32_t mask, int site);

/* 16 bytes of the thread `lane` of the caller's warp, for an exchange between two calls of `emu_warp_barrier`; NULL if
 * the block has no such thread. */
void *emu_lane(uint32_t lane);

/* A barrier of the warp at which each lane gives a value of up to 16 bytes and takes that of the lane `from`: it is
 * replaced in `value`. False if that lane does not take part; the value is then unchanged. */
bool emu_exchange(uint32_t mask, int site, uint32_t from, void *value, size_t size);

/* The lanes of the caller's warp that have not returned. */
uint32_t emu_active_lanes(void);

/* The shared array of this block that is declared at `site`; its bytes are garbage (NaN) at first. */
void *emu_shared(int site, size_t size, size_t alignment);

/* The block's dynamic shared memory. */
void *emu_dynamic_shared(void);

/* cp.async: a copy of up to 16 bytes to shared memory joins the thread's open group; a commit closes the group; a wait
 * makes the copies of all closed groups but the `pending` last ones. */
void emu_async_copy(void *to, const void *bytes, size_t size);
void emu_async_commit(void);
void emu_async_wait(uint32_t pending);

/* Ends the kernel with an error that names the kernel, the block and the thread. */
__attribute__((noreturn, format(printf, 1, 2))) void emu_fault(const char *format, ...);

#ifdef __cplusplus
}
#endif
#endif
