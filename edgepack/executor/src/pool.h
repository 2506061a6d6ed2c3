/* Threads that run the parallel loops of kernels, and memory for the kernels' own arrays. */
#ifndef EDGEPACK_POOL_H
#define EDGEPACK_POOL_H

#include <stdbool.h>
#include <stdint.h>

struct pool;

/* `threads` in all, the caller's included, each with `workspace` bytes for the arrays of a kernel; NULL if there is no
 * memory for them, or the system starts no more threads. */
struct pool *pool_new(int threads, uint64_t workspace);

/* Safe with NULL. */
void pool_free(struct pool *pool);

/* Lets the calling thread's kernels use the pool until pool_leave. False if a thread is in it already. In a process that
 * has been forked since, all tasks run on the calling thread. */
bool pool_enter(struct pool *pool);
void pool_leave(struct pool *pool);

/* What a kernel's parallel loop is: `run` is called with each task's number, and returns 0 if all is well. */
struct group {
    void *sync;
    int32_t tasks;
};
typedef int (*pool_body)(int task, struct group *group, void *closure);

/* Calls `run` once on each thread of the pool that the calling thread is in. Returns 0 if each of them does. */
int pool_run(pool_body run, void *closure);

/* Whether a thread is in the pool. */
bool pool_busy(const struct pool *pool);

#endif
