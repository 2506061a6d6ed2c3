/* The blocks of a launch on all cores. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fibers.h"

enum { MAX_WORKERS = 64 };

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t start, end;
    int size;
    struct worker *workers[MAX_WORKERS];
    uint64_t generation;
    int running;
    const struct launch *launch;
    uint64_t next, blocks; /* the next block to run */
    bool stop;
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER, .start = PTHREAD_COND_INITIALIZER, .end = PTHREAD_COND_INITIALIZER};

static struct emu_index block_at(const struct launch *launch, uint64_t number)
{
    uint64_t x = launch->grid.x, y = launch->grid.y;
    return (struct emu_index){(uint32_t)(number % x), (uint32_t)(number / x % y), (uint32_t)(number / x / y)};
}

static void run_blocks(struct worker *worker)
{
    worker_begin(worker, pool.launch);
    for (;;) {
        uint64_t number = __atomic_fetch_add(&pool.next, 1, __ATOMIC_RELAXED);
        if (number >= pool.blocks || __atomic_load_n(&pool.stop, __ATOMIC_RELAXED))
            return;
        if (!worker_run(worker, block_at(pool.launch, number), number))
            __atomic_store_n(&pool.stop, true, __ATOMIC_RELAXED);
    }
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    uint64_t seen = 0;
    signals_own_stack();
    pthread_mutex_lock(&pool.mutex);
    for (;;) {
        while (pool.generation == seen)
            pthread_cond_wait(&pool.start, &pool.mutex);
        seen = pool.generation;
        pthread_mutex_unlock(&pool.mutex);
        run_blocks(worker);
        pthread_mutex_lock(&pool.mutex);
        if (--pool.running == 0)
            pthread_cond_signal(&pool.end);
    }
    return NULL;
}

static bool open_pool(void)
{
    cpu_set_t cores;
    if (pool.size > 0)
        return true; /* a forked child never comes here, see errors.c */
    signals_catch();
    int wanted = sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
    wanted = wanted > MAX_WORKERS ? MAX_WORKERS : wanted;
    for (int i = 0; i < wanted; i++) {
        pthread_t thread;
        if (pool.workers[i] == NULL && (pool.workers[i] = worker_new()) == NULL)
            break;
        /* The first worker is the thread that launches. */
        if (i > 0 && pthread_create(&thread, NULL, work, pool.workers[i]) != 0)
            break;
        pool.size++;
    }
    return pool.size > 0;
}

static bool begin(const struct launch *launch)
{
    if (!open_pool()) {
        gpu_poison(CUDA_UNKNOWN, "no memory for the emulation's threads");
        return false;
    }
    signals_own_stack();
    pool.launch = launch;
    pool.blocks = (uint64_t)launch->grid.x * launch->grid.y * launch->grid.z;
    pool.next = 0;
    pool.stop = false;
    return true;
}

/* An order of blocks is one worker's: several would mix it. */
void run_launch_in_order(const struct launch *launch)
{
    if (!begin(launch))
        return;
    uint32_t *order = malloc(pool.blocks * sizeof *order);
    struct worker *worker = pool.workers[0];
    if (order == NULL) {
        gpu_poison(CUDA_UNKNOWN, "no memory for the order of %llu blocks", (unsigned long long)pool.blocks);
        return;
    }
    order_fill(order, (uint32_t)pool.blocks, launch, 1u << 31);
    worker_begin(worker, launch);
    for (uint64_t i = 0; i < pool.blocks; i++)
        if (!worker_run(worker, block_at(launch, order[i]), order[i]))
            break;
    free(order);
}

void run_launch(const struct launch *launch)
{
    if (!begin(launch))
        return;
    if (pool.size > 1 && pool.blocks > 1) {
        pthread_mutex_lock(&pool.mutex);
        pool.running = pool.size - 1;
        pool.generation++;
        pthread_cond_broadcast(&pool.start);
        pthread_mutex_unlock(&pool.mutex);
    }
    run_blocks(pool.workers[0]);
    pthread_mutex_lock(&pool.mutex);
    while (pool.running > 0)
        pthread_cond_wait(&pool.end, &pool.mutex);
    pthread_mutex_unlock(&pool.mutex);
}
