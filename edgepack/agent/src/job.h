/* The header line of one candidate in the stream of `measure`:
 *     job ID SIZE FUNCTION DTYPE:SHAPE...
 * followed by SIZE bytes of a shared library, or of an executable if the agent is static. */
#ifndef EDGEPACK_JOB_H
#define EDGEPACK_JOB_H

#include "dtype.h"

enum { MAX_ARGUMENTS = 64, MAX_LINE = 16384 };
#define MAX_LIBRARY ((size_t)256 << 20) /* bytes */

struct job {
    char id[65];
    char function[257];
    size_t size;
    struct tensor_type arguments[MAX_ARGUMENTS];
    int argument_count;
    char text[MAX_LINE + 1]; /* of the function and the arguments */
    struct failure failure; /* status STATUS_OK, or why this candidate cannot be run */
};

/* Parses a line without its newline. False if ID or SIZE cannot be read: the stream is unusable then,
 * since the start of the next frame is unknown. A problem in the rest is stored in `job->failure` and
 * only affects this candidate. */
bool job_parse(const char *line, size_t length, struct job *job, struct failure *failure);

/* Parses `job->text` again, in the process of a candidate. */
void job_parse_text(struct job *job);

#endif
