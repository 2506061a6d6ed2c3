/* Opening a path that may name something else than a regular file: a FIFO blocks whoever opens it. */
#ifndef EDGEPACK_REGULAR_H
#define EDGEPACK_REGULAR_H

#include <stdio.h>

#include "fail.h"

/* Opens a regular file for reading; NULL if there is none that can be read. */
FILE *regular_open(const char *path, struct failure *failure);

/* Creates a regular file for writing, or empties it. A symbolic link is not followed. */
FILE *regular_create(const char *path, struct failure *failure);

#endif
