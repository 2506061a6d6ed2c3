/* Failures are values: a status, which is the exit code, and a message. */
#ifndef EDGEPACK_FAIL_H
#define EDGEPACK_FAIL_H

#include <stdbool.h>

/* Exit codes of the agent; docs/agent-protocol.md lists them. */
enum status {
    STATUS_OK = 0,
    STATUS_INTERNAL = 1, /* out of memory, or a system call that should not fail */
    STATUS_USAGE = 2,    /* wrong arguments */
    STATUS_INPUT = 3,    /* an input file that cannot be used */
    STATUS_MODEL = 4,    /* the model cannot be loaded, or TVM raised an error */
    STATUS_OUTPUT = 5,   /* a result cannot be written, e.g. the disk is full */
    STATUS_STREAM = 6,   /* the stream of `measure` is invalid */
    STATUS_DEVICE = 7,   /* no GPU, or its runtime library is missing */
    STATUS_CRASH = 8,    /* the process that ran the model died: SIGSEGV, SIGILL, out of memory, ... */
    STATUS_LOCK = 9,     /* the lock of a folder was lost */
};

struct failure {
    enum status status;
    char text[4096];
};

/* Fills `failure` from a printf format and returns false, so that a caller can write
 * `return fail(...)`. */
bool fail(struct failure *failure, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The name of a status in the JSON of an error, e.g. "input". */
const char *status_name(enum status status);

#endif
