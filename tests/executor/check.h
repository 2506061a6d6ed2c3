/* Shared by the programs of these tests. */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgepack_net.h"

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                    \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* A net that is written by hand, whose only kernel does what its input says; see made.c. */
extern const edgepack_net made;

enum { MADE_TASKS = 64 };
enum { PLAIN, FAIL, NESTED, TOO_MUCH, WAIT };

/* Runs the made net: its status, and what the tasks have written. */
edgepack_status run_made(edgepack_model *model, int what, int tasks, int32_t written[MADE_TASKS]);

/* While the kernel waits, `made_waiting` is 1, until somebody sets it to 2. */
extern _Atomic int made_waiting;

#endif
