/* The cores of a machine that has several kinds. */
#ifndef EDGEPACK_CORES_H
#define EDGEPACK_CORES_H

#include <sched.h>
#include <stdbool.h>

/* Leaves the fastest cores in a set that are enough for `threads`, by what Linux says below `root`, which is "" but in
 * tests. False if there is no reason to: the cores are about equal, their speeds are not known, or all are needed. */
bool cores_keep_fast(const char *root, int threads, cpu_set_t *cores);

#endif
