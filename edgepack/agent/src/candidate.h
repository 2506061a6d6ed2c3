/* One candidate of `measure`: run and timed in a child process of its own. */
#ifndef EDGEPACK_CANDIDATE_H
#define EDGEPACK_CANDIDATE_H

#include "agent.h"
#include "job.h"

enum { MAX_REPEATS = 1000 };

/* The result of a candidate, in memory shared by parent and child. */
struct verdict {
    bool done; /* the child completed: `failure` has the result */
    struct failure failure;
    double ms[MAX_REPEATS]; /* of one call, averaged over `calls` calls */
    int64_t calls;
};

/* Runs in the child; never returns. `library` is a descriptor of the shared library. */
_Noreturn void candidate_child(const struct job *job, int library, const struct options *options,
                               struct verdict *verdict);

#endif
