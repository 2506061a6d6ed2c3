/* The program that a candidate is linked into, which a static agent starts: it calls the kernel in the threads that
 * compiled models have, and writes to the agent's memory how long a call takes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "job.h"
#include "pool.h"
#include "verdict.h"

enum { ALIGNMENT = 64 };

/* The kernel: a function of as many addresses as it has arguments. */
void edgepack_candidate_main(void);

/* Its address is the number of bytes that the kernel's own arrays take, set by the linker. */
extern const char edgepack_candidate_workspace[];

struct kernel {
    struct pool *pool;
    void *data[MAX_ARGUMENTS];
    int count;
};

static bool make_arguments(const struct job *job, struct kernel *kernel, struct failure *failure)
{
    for (int i = 0; i < job->argument_count; i++) {
        const struct tensor_type *type = &job->arguments[i];
        kernel->data[i] = aligned_alloc(ALIGNMENT, (type->size / ALIGNMENT + 1) * ALIGNMENT);
        if (kernel->data[i] == NULL)
            return fail(failure, STATUS_INTERNAL, "out of memory: argument %d takes %zu bytes", i, type->size);
        fill_reproducible(type, kernel->data[i], (uint64_t)i);
    }
    kernel->count = job->argument_count;
    return true;
}

#define FOUR void *, void *, void *, void *
#define SIXTEEN FOUR, FOUR, FOUR, FOUR
typedef int32_t of_8(FOUR, FOUR);
typedef int32_t of_16(SIXTEEN);
typedef int32_t of_64(SIXTEEN, SIXTEEN, SIXTEEN, SIXTEEN);

/* A function does not see arguments beyond its own: by the calling conventions of x86-64 and of aarch64 they are the
 * caller's. Few are passed where few will do, since a call is timed. */
static int32_t call_kernel(void *const *d, int count)
{
    void (*const function)(void) = edgepack_candidate_main;
#define D4(i) d[i], d[i + 1], d[i + 2], d[i + 3]
#define D16(i) D4(i), D4(i + 4), D4(i + 8), D4(i + 12)
    if (count <= 8)
        return ((of_8 *)function)(D4(0), D4(4));
    if (count <= 16)
        return ((of_16 *)function)(D16(0));
    return ((of_64 *)function)(D16(0), D16(16), D16(32), D16(48));
}

static bool call(void *context, int64_t calls, struct failure *failure)
{
    struct kernel *kernel = context;
    for (int64_t i = 0; i < calls; i++) {
        if (!pool_enter(kernel->pool) || call_kernel(kernel->data, kernel->count) != 0)
            return fail(failure, STATUS_MODEL, "the kernel failed: out of memory");
        pool_leave(kernel->pool);
    }
    return true;
}

/* The words are of static/candidate.c. */
static void run(char **words, struct verdict *verdict)
{
    static struct job job;
    static struct kernel kernel;
    snprintf(job.text, sizeof job.text, "%s", words[5]);
    job_parse_text(&job);
    verdict->failure = job.failure;
    if (job.failure.status != STATUS_OK || !make_arguments(&job, &kernel, &verdict->failure))
        return;
    kernel.pool = pool_new(atoi(words[4]), (uint64_t)(uintptr_t)edgepack_candidate_workspace);
    if (kernel.pool == NULL)
        fail(&verdict->failure, STATUS_INTERNAL, "%s threads cannot be started", words[4]);
    else if (take_samples(call, &kernel, strtoll(words[2], NULL, 10), (double)strtoll(words[3], NULL, 10) / 1e6, verdict))
        verdict->failure.status = STATUS_OK;
}

int main(int count, char **words)
{
    struct verdict *verdict = count != 6 ? MAP_FAILED
                                         : mmap(NULL, sizeof *verdict, PROT_READ | PROT_WRITE, MAP_SHARED,
                                                atoi(words[1]), 0);
    if (verdict == MAP_FAILED)
        return STATUS_USAGE;
    run(words, verdict);
    verdict->done = true;
    _exit(0); /* no destructors: a broken kernel may have corrupted memory */
}
