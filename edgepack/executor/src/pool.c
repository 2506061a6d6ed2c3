#include "pool.h"

#include "cores.h"
#include "memory.h"

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
    LONG_NS = 2 * SPIN_NS,
    LOOKS = 64,      /* between two looks at the clock */
};

enum { AWAKE, ASLEEP, ENDING }; /* states of a worker */

#define PARKED (1u << 31) /* in the number of tasks that are left: the caller sleeps until it is 0 */

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

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18 /* not in the headers of old C libraries */
#endif

struct worker {
    _Alignas(ALIGNMENT) atomic_uint state; /* a line of the cache of its own */
    _Alignas(ALIGNMENT) struct pool *pool;
    int number;
    bool inside; /* runs tasks: a loop in a loop runs where it is */
    pthread_t thread;
    struct workspace workspace;
};

/* A parallel loop is divided into tasks, which the caller and the workers take one after the other. The caller waits only
 * for tasks that a worker has begun: one that wakes late, or is not given a core, does not hold it up.
 *
 * `ticket` has the number of the loop in its upper half, and the next task in the lower. Taking a task adds 1 to it, which
 * fails if the loop is another one by then: what the worker has read of it is not used in that case. */
struct pool {
    int threads, started;
    int active; /* threads that may be used: only the caller in a process that has been forked */
    struct process *process;
    pid_t number; /* of the process in which the threads are */
    bool wiped;   /* a process that is forked finds zeros in `process` */
    bool bound;    /* the threads run on some cores only */
    cpu_set_t cores;
    struct worker *workers; /* the first is the caller */
    int64_t entered_at, stayed, left_at; /* the last time that a thread was in the pool, in nanoseconds */
    bool wakes; /* threads that sleep are woken */
    /* Lines of the cache of their own. */
    _Alignas(ALIGNMENT) atomic_ullong ticket;
    _Atomic(pool_body) run;
    _Atomic(void *) closure;
    atomic_int tasks;
    atomic_int failed;
    _Alignas(ALIGNMENT) atomic_uint left; /* tasks that have not ended */
};

/* What a process that is forked has anew: nobody is in its copy of the pool, and it has no copies of the threads. */
struct process {
    atomic_int entered; /* the number of the process that is in the pool; 0 for none */
    bool has_threads;
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

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

struct spin {
    unsigned looks;
    int64_t until;
};

/* Pauses before the next look at something that another thread is about to write; false if it takes too long. */
static bool look_again(struct spin *spin)
{
    if (++spin->looks % LOOKS == 0) {
        const int64_t time = now();
        if (spin->until == 0)
            spin->until = time + SPIN_NS;
        else if (time >= spin->until)
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

/* A task that a thread has taken, with what it needs to know of the loop. */
struct task {
    pool_body run;
    void *closure;
    int number, tasks;
};

/* Takes the next task, if there is one. */
static bool take_task(struct pool *pool, struct task *task)
{
    unsigned long long ticket = atomic_load_explicit(&pool->ticket, memory_order_acquire);
    do {
        task->number = (int)(uint32_t)ticket;
        task->tasks = atomic_load_explicit(&pool->tasks, memory_order_acquire);
        task->run = atomic_load_explicit(&pool->run, memory_order_relaxed);
        task->closure = atomic_load_explicit(&pool->closure, memory_order_relaxed);
        if (task->number >= task->tasks)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&pool->ticket, &ticket, ticket + 1, memory_order_acq_rel,
                                                    memory_order_acquire));
    return true;
}

/* Runs tasks until there are none; returns how many. What a kernel that failed has not given back is free again. */
static unsigned run_tasks(struct pool *pool, struct worker *worker)
{
    const struct workspace before = worker->workspace;
    struct task task;
    unsigned count = 0;
    worker->inside = true;
    for (; take_task(pool, &task); count++) {
        struct group group = {NULL, task.tasks};
        if (task.run(task.number, &group, task.closure) != 0)
            atomic_store_explicit(&pool->failed, 1, memory_order_relaxed);
        worker->workspace = before;
    }
    worker->inside = false;
    return count;
}

static bool has_tasks(struct pool *pool)
{
    const unsigned long long ticket = atomic_load(&pool->ticket);
    return (int)(uint32_t)ticket < atomic_load_explicit(&pool->tasks, memory_order_relaxed);
}

/* Wakes a worker that sleeps: it looks for tasks then. */
static void wake(struct worker *worker)
{
    unsigned asleep = ASLEEP;
    if (atomic_load(&worker->state) == ASLEEP && atomic_compare_exchange_strong(&worker->state, &asleep, AWAKE))
        futex_wake(&worker->state);
}

static void end(struct worker *worker)
{
    if (atomic_exchange(&worker->state, ENDING) == ASLEEP)
        futex_wake(&worker->state);
}

/* Waits until there may be tasks; false if the worker is to end. */
static bool await_tasks(struct pool *pool, struct worker *worker)
{
    struct spin spin = {0};
    while (!has_tasks(pool)) {
        if (atomic_load_explicit(&worker->state, memory_order_acquire) == ENDING)
            return false;
        if (look_again(&spin))
            continue;
        unsigned awake = AWAKE;
        /* A caller that does not see that it sleeps has published its tasks before, so that they are seen here. */
        if (atomic_compare_exchange_strong(&worker->state, &awake, ASLEEP) && !has_tasks(pool))
            futex_wait(&worker->state, ASLEEP);
        unsigned asleep = ASLEEP;
        atomic_compare_exchange_strong(&worker->state, &asleep, AWAKE);
        spin = (struct spin){0};
    }
    return true;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct pool *pool = worker->pool;
    current = worker;
    if (pool->bound)
        sched_setaffinity(0, sizeof pool->cores, &pool->cores);
    while (await_tasks(pool, worker)) {
        const unsigned count = run_tasks(pool, worker);
        if (count > 0 && atomic_fetch_sub_explicit(&pool->left, count, memory_order_acq_rel) == (PARKED | count))
            futex_wake(&pool->left);
    }
    return NULL;
}

/* Waits until all tasks have ended. */
static void await_workers(struct pool *pool)
{
    unsigned left;
    struct spin spin = {0};
    while ((left = atomic_load_explicit(&pool->left, memory_order_acquire)) != 0)
        if (!look_again(&spin))
            break;
    while ((left & ~PARKED) != 0) {
        if (atomic_compare_exchange_strong_explicit(&pool->left, &left, left | PARKED, memory_order_acquire,
                                                    memory_order_acquire))
            futex_wait(&pool->left, left | PARKED);
        left = atomic_load_explicit(&pool->left, memory_order_acquire);
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
    const unsigned long long loop = (atomic_load_explicit(&pool->ticket, memory_order_relaxed) >> 32) + 1;
    /* Without a task until all is written: who sees the new number of tasks sees that the ticket is another one. */
    atomic_store_explicit(&pool->ticket, loop << 32 | INT32_MAX, memory_order_relaxed);
    atomic_store_explicit(&pool->tasks, tasks, memory_order_release);
    atomic_store_explicit(&pool->run, run, memory_order_relaxed);
    atomic_store_explicit(&pool->closure, closure, memory_order_relaxed);
    atomic_store_explicit(&pool->failed, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->left, (unsigned)tasks, memory_order_relaxed);
    atomic_store(&pool->ticket, loop << 32);
    for (int number = 1; number < active && pool->wakes; number++)
        wake(&pool->workers[number]);
    const unsigned own = run_tasks(pool, current);
    if (atomic_fetch_sub_explicit(&pool->left, own, memory_order_acq_rel) != own)
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

/* The number of this process, for which Linux is asked only if it cannot wipe memory in forked ones (before 4.14). */
static int this_process(const struct pool *pool)
{
    return pool->wiped ? pool->number : getpid();
}

static bool has_threads(const struct pool *pool)
{
    return pool->process->has_threads && this_process(pool) == pool->number;
}

struct pool *pool_new(int threads, uint64_t workspace)
{
    struct pool *pool = aligned_alloc(ALIGNMENT, sizeof *pool); /* both sizes are multiples of the alignment */
    if (pool == NULL)
        return NULL;
    *pool = (struct pool){.threads = threads, .active = threads, .number = getpid()};
    pool->process = memory_new(sizeof *pool->process);
    if (pool->process == NULL) {
        free(pool);
        return NULL;
    }
    pool->process->has_threads = true;
    pool->wiped = madvise(pool->process, sizeof *pool->process, MADV_WIPEONFORK) == 0;
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
    const bool here = has_threads(pool);
    for (int number = 1; here && number < pool->started; number++)
        end(&pool->workers[number]);
    for (int number = 0; number < pool->started; number++) {
        if (here && number > 0)
            pthread_join(pool->workers[number].thread, NULL);
        free(pool->workers[number].workspace.memory);
    }
    memory_free(pool->process, sizeof *pool->process);
    free(pool->workers);
    free(pool);
}

bool pool_enter(struct pool *pool)
{
    const int process = this_process(pool);
    int other = atomic_load(&pool->process->entered);
    /* A thread of the process from which this one has been forked does not exist here. */
    if (other == process || !atomic_compare_exchange_strong(&pool->process->entered, &other, process))
        return false;
    pool->active = has_threads(pool) ? pool->threads : 1;
    if (pool->threads > 1) {
        /* A short inference is over before a thread is awake, unless others follow at once. */
        pool->entered_at = now();
        pool->wakes = pool->stayed == 0 || pool->stayed > LONG_NS || pool->entered_at - pool->left_at < SPIN_NS;
    }
    current = &pool->workers[0];
    current->inside = false;
    current->workspace.used = 0;
    return true;
}

void pool_leave(struct pool *pool)
{
    if (pool->threads > 1) {
        pool->left_at = now();
        pool->stayed = pool->left_at - pool->entered_at;
    }
    current = NULL;
    atomic_store(&pool->process->entered, 0);
}

bool pool_busy(const struct pool *pool)
{
    const int other = atomic_load(&pool->process->entered);
    return other != 0 && other == this_process(pool);
}
