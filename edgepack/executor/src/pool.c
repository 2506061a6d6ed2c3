#include "pool.h"

#include "cores.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    ALIGNMENT = 64,
    SPIN_NS = 50000, /* about what it costs to sleep and be woken */
    LOOKS = 64,      /* between two looks at the clock */
};

enum { IDLE, CALLED, ASLEEP, ENDING }; /* states of a worker */

#define PARKED (1u << 31) /* in the number of those who work: the caller sleeps until it is 0 */

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
    _Alignas(ALIGNMENT) atomic_uint state; /* a line of the cache of its own */
    _Alignas(ALIGNMENT) struct pool *pool;
    int number;
    bool inside; /* runs tasks: a loop in a loop runs where it is */
    pthread_t thread;
    struct workspace workspace;
};

struct pool {
    int threads, started;
    int active; /* threads that may be used: only the caller in a process that has been forked */
    pid_t process; /* in which the threads are */
    bool bound;    /* the threads run on some cores only */
    cpu_set_t cores;
    struct worker *workers; /* the first is the caller */
    pool_body run;
    void *closure;
    int tasks;
    atomic_int failed, entered; /* the process that is in the pool; 0 for none */
    _Alignas(ALIGNMENT) atomic_uint working; /* a line of the cache of its own */
};

static _Thread_local struct worker *current;

static int launch(pool_body run, void *closure, int tasks);
static void *take(int device, int number, uint64_t size, int code, int bits);
static int give_back(int device, int number, void *memory);

/* What compiled kernels call: TVM's names, which object files of kernels define weakly as pointers to functions. */
extern int (*const __TVMBackendParallelLaunch)(pool_body run, void *closure, int tasks);
extern void *(*const __TVMBackendAllocWorkspace)(int device, int number, uint64_t size, int code, int bits);
extern int (*const __TVMBackendFreeWorkspace)(int device, int number, void *memory);

int (*const __TVMBackendParallelLaunch)(pool_body, void *, int) = launch;
void *(*const __TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = take;
int (*const __TVMBackendFreeWorkspace)(int, int, void *) = give_back;

struct spin {
    unsigned looks;
    int64_t until;
};

/* Pauses before the next look at something that another thread is about to write; false if it takes too long. */
static bool look_again(struct spin *spin)
{
    if (++spin->looks % LOOKS == 0) {
        struct timespec time;
        clock_gettime(CLOCK_MONOTONIC, &time);
        const int64_t now = time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
        if (spin->until == 0)
            spin->until = now + SPIN_NS;
        else if (now >= spin->until)
            return false;
    }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
    return true;
}

/* Sleeps while the word has this value. */
static void futex_wait(atomic_uint *word, unsigned value)
{
    syscall(SYS_futex, (unsigned *)word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(atomic_uint *word)
{
    syscall(SYS_futex, (unsigned *)word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* The tasks of one thread: every `active`-th. What a kernel that failed has not given back is free again. */
static void run_tasks(struct pool *pool, struct worker *worker)
{
    struct group group = {NULL, pool->tasks};
    const struct workspace before = worker->workspace;
    worker->inside = true;
    for (int task = worker->number; task < pool->tasks; task += pool->active) {
        if (pool->run(task, &group, pool->closure) != 0)
            atomic_store_explicit(&pool->failed, 1, memory_order_relaxed);
        worker->workspace = before;
    }
    worker->inside = false;
}

/* Waits until a worker is called; false if it is to end. */
static bool await_call(struct worker *worker)
{
    unsigned state;
    struct spin spin = {0};
    while ((state = atomic_load_explicit(&worker->state, memory_order_acquire)) == IDLE && look_again(&spin))
        continue;
    if (state == IDLE && atomic_compare_exchange_strong_explicit(&worker->state, &state, ASLEEP, memory_order_acquire,
                                                                 memory_order_acquire))
        while ((state = atomic_load_explicit(&worker->state, memory_order_acquire)) == ASLEEP)
            futex_wait(&worker->state, ASLEEP);
    if (state == ENDING)
        return false;
    atomic_store_explicit(&worker->state, IDLE, memory_order_relaxed); /* before it is missed among those who work */
    return true;
}

static void call(struct worker *worker, unsigned state)
{
    if (atomic_exchange_explicit(&worker->state, state, memory_order_acq_rel) == ASLEEP)
        futex_wake(&worker->state);
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct pool *pool = worker->pool;
    current = worker;
    if (pool->bound)
        sched_setaffinity(0, sizeof pool->cores, &pool->cores);
    while (await_call(worker)) {
        run_tasks(pool, worker);
        if (atomic_fetch_sub_explicit(&pool->working, 1, memory_order_acq_rel) == (PARKED | 1))
            futex_wake(&pool->working);
    }
    return NULL;
}

/* Waits until no worker works. */
static void await_workers(struct pool *pool)
{
    unsigned working;
    struct spin spin = {0};
    while ((working = atomic_load_explicit(&pool->working, memory_order_acquire)) != 0)
        if (!look_again(&spin))
            break;
    while ((working & ~PARKED) != 0) {
        if (atomic_compare_exchange_strong_explicit(&pool->working, &working, working | PARKED, memory_order_acquire,
                                                    memory_order_acquire))
            futex_wait(&pool->working, working | PARKED);
        working = atomic_load_explicit(&pool->working, memory_order_acquire);
    }
}

static int run_here(pool_body run, void *closure, int tasks)
{
    struct group group = {NULL, tasks};
    for (int task = 0; task < tasks; task++)
        if (run(task, &group, closure) != 0)
            return -1;
    return 0;
}

static int launch(pool_body run, void *closure, int tasks)
{
    struct pool *pool = current->pool;
    if (tasks <= 0)
        tasks = pool->threads;
    const int active = tasks < pool->active ? tasks : pool->active;
    if (active == 1 || current->inside)
        return run_here(run, closure, tasks);
    pool->run = run;
    pool->closure = closure;
    pool->tasks = tasks;
    atomic_store_explicit(&pool->failed, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->working, (unsigned)active - 1, memory_order_relaxed);
    for (int number = 1; number < active; number++)
        call(&pool->workers[number], CALLED);
    run_tasks(pool, current);
    await_workers(pool);
    return atomic_load_explicit(&pool->failed, memory_order_relaxed) ? -1 : 0;
}

int pool_run(pool_body run, void *closure)
{
    return launch(run, closure, 0);
}

static void *take(int device, int number, uint64_t size, int code, int bits)
{
    (void)device, (void)number, (void)code, (void)bits;
    struct workspace *own = &current->workspace;
    const uint64_t left = own->size - own->used;
    if (left < ALIGNMENT || size > left - ALIGNMENT ||
        (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT > left - ALIGNMENT)
        return NULL; /* more than was planned: the kernel fails */
    struct header *header = (struct header *)(void *)(own->memory + own->used);
    *header = (struct header){.before = own->last};
    own->last = own->used;
    own->used += ALIGNMENT + (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
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

/* Finds the cores for the threads: all that the process may use, unless some are faster and enough. */
static void choose_cores(struct pool *pool)
{
    const char *wanted = getenv("EDGEPACK_AFFINITY");
    if (pool->threads > 1 && (wanted == NULL || strcmp(wanted, "off") != 0) &&
        sched_getaffinity(0, sizeof pool->cores, &pool->cores) == 0)
        pool->bound = cores_keep_fast("", pool->threads, &pool->cores);
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
    struct pool *pool = aligned_alloc(ALIGNMENT, sizeof *pool); /* both sizes are multiples of the alignment */
    if (pool == NULL)
        return NULL;
    *pool = (struct pool){.threads = threads, .active = threads, .process = getpid()};
    const size_t size = (size_t)threads * sizeof *pool->workers;
    pool->workers = aligned_alloc(ALIGNMENT, size);
    if (pool->workers != NULL)
        memset(pool->workers, 0, size);
    choose_cores(pool);
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
    const bool here = getpid() == pool->process; /* a process that has been forked has no copies of the threads */
    for (int number = 1; here && number < pool->started; number++)
        call(&pool->workers[number], ENDING);
    for (int number = 0; number < pool->started; number++) {
        if (here && number > 0)
            pthread_join(pool->workers[number].thread, NULL);
        free(pool->workers[number].workspace.memory);
    }
    free(pool->workers);
    free(pool);
}

bool pool_enter(struct pool *pool)
{
    const int process = getpid();
    int other = atomic_load(&pool->entered);
    /* A thread of the process from which this one has been forked does not exist here. */
    if (other == process || !atomic_compare_exchange_strong(&pool->entered, &other, process))
        return false;
    pool->active = process == pool->process ? pool->threads : 1;
    current = &pool->workers[0];
    current->inside = false;
    current->workspace.used = 0;
    return true;
}

void pool_leave(struct pool *pool)
{
    current = NULL;
    atomic_store(&pool->entered, 0);
}

bool pool_busy(const struct pool *pool)
{
    const int other = atomic_load(&pool->entered);
    return other != 0 && other == getpid();
}
