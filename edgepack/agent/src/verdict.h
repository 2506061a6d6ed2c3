/* The result of one candidate of `measure`. */
#ifndef EDGEPACK_VERDICT_H
#define EDGEPACK_VERDICT_H

#include <stdbool.h>
#include <stdint.h>

#include "fail.h"

enum { MAX_REPEATS = 1000 };

/* In memory shared by the agent and the process of the candidate. */
struct verdict {
    bool done; /* the process completed: `failure` has the result */
    struct failure failure;
    double ms[MAX_REPEATS]; /* of one call, averaged over `calls` calls */
    int64_t calls;
};

/* Calls a kernel `calls` times in a row, and waits until it has finished. */
typedef bool kernel_caller(void *kernel, int64_t calls, struct failure *failure);

/* Takes `repeats` samples of at least `min_ms` each. */
bool take_samples(kernel_caller *call, void *kernel, int64_t repeats, double min_ms, struct verdict *verdict);

#endif
