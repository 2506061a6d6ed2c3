/* Threads, cores, and work in a child process that may die. */
#ifndef EDGEPACK_PROCESS_H
#define EDGEPACK_PROCESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "fail.h"

/* Tells TVM's thread pool how many threads to use; before its first use. */
bool set_threads(int64_t threads, struct failure *failure);

/* Pins this process to `cores` and keeps TVM from moving its threads elsewhere; none: no pinning. */
bool pin_cores(const int *cores, int count, struct failure *failure);

/* Describes a status of waitpid in `text`, and returns `text`. */
const char *death_text(int how, char *text, size_t size);

/* In a child: from here on the kernel kills it when its parent exits for any reason. */
void die_with_parent(pid_t parent);

/* In a child that runs a candidate: it must not read the agent's input, write to its results or leave a core file, and
 * must be killed before the agent when memory runs out. */
void isolate(void);

/* Runs `work` in a child; its result is `code`. False, with STATUS_CRASH, if the child exited before
 * completing it: a damaged or incompatible model can do anything, even call exit. */
bool supervise(int (*work)(void *context), void *context, int *code, struct failure *failure);

/* The current activity of the supervised child, for the message if it crashes; a string literal. */
void enter_stage(const char *stage);

#endif
