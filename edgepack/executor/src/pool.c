#include "pool.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* What compiled kernels call: TVM's names, which every object file of kernels defines weakly as pointers to functions. */
struct group {
    void *sync;
    int32_t tasks;
};
typedef int (*body)(int task, struct group *group, void *closure);

extern int (*__TVMBackendParallelLaunch)(body run, void *closure, int tasks) __attribute__((weak));
extern void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t size, int, int) __attribute__((weak));
extern int (*__TVMBackendFreeWorkspace)(int, int, void *) __attribute__((weak));

enum { ALIGNMENT = 64, SPINS = 2000 }; /* about 10 microseconds: longer than most gaps between kernels */

/* Memory for arrays of kernels: a stack of blocks, each behind a header. A kernel may give back another block than the
 * last one, which is free once those after it are. */
struct workspace {
    char *memory;
    uint64_t size, used, last; /* last: the place of the last header, if anything is used */
};

struct header {
    uint64_t before; /* the place of the header before it */
    bool given_back;
};

struct worker {
    struct pool *pool;
    int number;
    pthread_t thread;
    struct workspace workspace;
};

struct pool {
    int threads, started;
    struct worker *workers; /* the first is the caller */
    body run;
    void *closure;
    int tasks;
    atomic_int failed;
    atomic_bool entered;
    _Alignas(ALIGNMENT) atomic_uint turn; /* goes up when there is work */
    _Alignas(ALIGNMENT) atomic_int working;
    _Alignas(ALIGNMENT) atomic_bool ending;
};

static _Thread_local struct worker *current;

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void futex_wait(atomic_uint *word, unsigned value)
{
    syscall(SYS_futex, (unsigned *)word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake_all(atomic_uint *word)
{
    syscall(SYS_futex, (unsigned *)word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* The tasks of one thread: every `threads`-th. */
static void run_tasks(struct pool *pool, int number)
{
    struct group group = {NULL, pool->tasks};
    for (int task = number; task < pool->tasks; task += pool->threads)
        if (pool->run(task, &group, pool->closure) != 0)
            atomic_store_explicit(&pool->failed, 1, memory_order_relaxed);
}

static unsigned next_turn(struct pool *pool, unsigned seen)
{
    for (int spin = 0; spin < SPINS; spin++) {
        unsigned turn = atomic_load_explicit(&pool->turn, memory_order_acquire);
        if (turn != seen)
            return turn;
        pause_briefly();
    }
    unsigned turn;
    while ((turn = atomic_load_explicit(&pool->turn, memory_order_acquire)) == seen)
        futex_wait(&pool->turn, seen);
    return turn;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct pool *pool = worker->pool;
    current = worker;
    for (unsigned seen = 0;;) {
        seen = next_turn(pool, seen);
        if (atomic_load_explicit(&pool->ending, memory_order_relaxed))
            return NULL;
        run_tasks(pool, worker->number);
        atomic_fetch_sub_explicit(&pool->working, 1, memory_order_release);
    }
}

static int launch(body run, void *closure, int tasks)
{
    struct pool *pool = current->pool;
    pool->run = run;
    pool->closure = closure;
    pool->tasks = tasks > 0 ? tasks : pool->threads;
    atomic_store_explicit(&pool->failed, 0, memory_order_relaxed);
    if (pool->threads == 1 || pool->tasks == 1 || current->number != 0) { /* a loop inside a loop runs where it is */
        struct group group = {NULL, pool->tasks};
        for (int task = 0; task < pool->tasks; task++)
            if (run(task, &group, closure) != 0)
                return -1;
        return 0;
    }
    atomic_store_explicit(&pool->working, pool->threads - 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&pool->turn, 1, memory_order_release);
    futex_wake_all(&pool->turn);
    run_tasks(pool, 0);
    while (atomic_load_explicit(&pool->working, memory_order_acquire) > 0)
        pause_briefly();
    return atomic_load_explicit(&pool->failed, memory_order_relaxed) ? -1 : 0;
}

static void *take(int device, int number, uint64_t size, int code, int bits)
{
    (void)device, (void)number, (void)code, (void)bits;
    struct workspace *own = &current->workspace;
    const uint64_t whole = ALIGNMENT + (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (whole > own->size - own->used)
        return NULL; /* more than was planned: the kernel fails */
    struct header *header = (struct header *)(void *)(own->memory + own->used);
    *header = (struct header){.before = own->last};
    own->last = own->used;
    own->used += whole;
    return (char *)header + ALIGNMENT;
}

static int give_back(int device, int number, void *memory)
{
    (void)device, (void)number;
    struct workspace *own = &current->workspace;
    ((struct header *)(void *)((char *)memory - ALIGNMENT))->given_back = true;
    while (own->used > 0) {
        const struct header *header = (const struct header *)(const void *)(own->memory + own->last);
        if (!header->given_back)
            break;
        own->used = own->last;
        own->last = header->before;
    }
    return 0;
}

static bool start(struct pool *pool, uint64_t workspace)
{
    sigset_t all, before; /* signals are for the application's threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool good = true;
    for (int number = 0; good && number < pool->threads; number++) {
        struct worker *worker = &pool->workers[number];
        worker->pool = pool;
        worker->number = number;
        worker->workspace.size = workspace;
        worker->workspace.memory = workspace > 0 ? aligned_alloc(ALIGNMENT, workspace) : NULL;
        good = (workspace == 0 || worker->workspace.memory != NULL) &&
               (number == 0 || pthread_create(&worker->thread, NULL, work, worker) == 0);
        if (good)
            pool->started++;
        else
            free(worker->workspace.memory);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return good;
}

struct pool *pool_new(int threads, uint64_t workspace)
{
    if (&__TVMBackendParallelLaunch != NULL)
        __TVMBackendParallelLaunch = launch;
    if (&__TVMBackendAllocWorkspace != NULL)
        __TVMBackendAllocWorkspace = take;
    if (&__TVMBackendFreeWorkspace != NULL)
        __TVMBackendFreeWorkspace = give_back;
    struct pool *pool = aligned_alloc(ALIGNMENT, (sizeof *pool + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    if (pool == NULL)
        return NULL;
    *pool = (struct pool){.threads = threads, .workers = calloc((size_t)threads, sizeof *pool->workers)};
    if (pool->workers == NULL || !start(pool, (workspace + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT)) {
        pool_free(pool);
        return NULL;
    }
    return pool;
}

void pool_free(struct pool *pool)
{
    if (pool == NULL)
        return;
    atomic_store(&pool->ending, true);
    atomic_fetch_add(&pool->turn, 1);
    futex_wake_all(&pool->turn);
    for (int number = 0; number < pool->started; number++) {
        if (number > 0)
            pthread_join(pool->workers[number].thread, NULL);
        free(pool->workers[number].workspace.memory);
    }
    free(pool->workers);
    free(pool);
}

bool pool_enter(struct pool *pool)
{
    if (atomic_exchange(&pool->entered, true))
        return false;
    current = &pool->workers[0];
    current->workspace.used = 0;
    return true;
}

void pool_leave(struct pool *pool)
{
    current = NULL;
    atomic_store(&pool->entered, false);
}
