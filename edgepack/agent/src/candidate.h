/* One candidate of `measure`: run and timed in a child process of its own. */
#ifndef EDGEPACK_CANDIDATE_H
#define EDGEPACK_CANDIDATE_H

#include "agent.h"
#include "job.h"
#include "verdict.h"

/* What candidates need, once; before any of them. */
bool candidates_prepare(struct failure *failure);

/* Runs in the child; never returns. `program` and `shared` are descriptors of the frame's file, and of the memory in
 * which `verdict` is. */
_Noreturn void candidate_child(const struct job *job, int program, const struct options *options, int shared,
                               struct verdict *verdict);

#endif
