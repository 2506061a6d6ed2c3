/* Threads of one block, each with a stack of its own on one thread of the host, which switches between them. */
#ifndef EDGEPACK_EMULATION_FIBERS_H
#define EDGEPACK_EMULATION_FIBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gpu.h"

enum state { READY, AT_BARRIER, AT_WARP_BARRIER, RETURNED };

struct fiber {
    void *stack_pointer; /* while it does not run */
    enum state state;
    int site;      /* where it waits */
    uint32_t mask; /* of AT_WARP_BARRIER */
    struct emu_thread thread;
    struct copies *copies;              /* asynchronous ones, see async.c; NULL until the first */
    bool copying;                       /* whether they are of this block */
    uint32_t from;                      /* the lane whose value it takes; EMU_WARP for none */
    bool took;                          /* whether that lane gave one */
    _Alignas(16) char slot[16], got[16]; /* what it gives to the lanes of its warp, and what it took */
};

enum {
    DYNAMIC_SITE = -1, /* instead of a shared array's site: dynamic shared memory */
    SHARED_GAP = 64, /* unused bytes around each array: an index off by one is noticed */
    STATIC_SHARED_LIMIT = 48 << 10,
    SHARED_SIZE = (232 << 10) + EMU_MAX_SHARED_ARRAYS * SHARED_GAP * 2,
};

/* The lanes of a warp, as bits. */
struct warp {
    uint32_t alive;   /* have not returned */
    uint32_t waiting; /* AT_WARP_BARRIER */
};

/* A thread of the host that runs blocks. */
struct worker {
    const struct launch *launch;
    struct fiber *fibers;
    char *stacks; /* each with an inaccessible page below it */
    size_t page;
    uint32_t *order, *position_of; /* which thread comes at a position, and the reverse */
    uint64_t ready[EMU_MAX_THREADS / 64]; /* by position */
    struct warp warps[EMU_MAX_THREADS / EMU_WARP];
    uint32_t threads, waiting, returned; /* of the current block */
    uint32_t position;                   /* of the running fiber in `order` */
    struct fiber *current;
    void *host_stack_pointer;
    bool inside; /* a fiber runs */
    bool failed;
    char *shared;
    size_t shared_used, static_used;
    int sites[EMU_MAX_SHARED_ARRAYS]; /* of the shared arrays in emu_bounds */
};

extern _Thread_local struct worker *emu_worker;

/* Allocates a worker's stacks and memory; NULL if there is not enough. */
struct worker *worker_new(void);
/* Of all stacks of a worker together. */
size_t worker_stacks_size(const struct worker *worker);
/* Begins a launch on this worker. */
void worker_begin(struct worker *worker, const struct launch *launch);
/* Runs one block; false if it failed. */
bool worker_run(struct worker *worker, struct emu_index block, uint64_t block_number);

/* Fills `order` with 0 to count - 1 in the launch's order; `stream` tells apart the orders of one seed. */
void order_fill(uint32_t *order, uint32_t count, const struct launch *launch, uint64_t stream);

#endif
