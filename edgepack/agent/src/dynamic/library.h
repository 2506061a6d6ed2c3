/* A model's shared library that has a runtime of its own. */
#ifndef EDGEPACK_LIBRARY_H
#define EDGEPACK_LIBRARY_H

#include "net.h"

struct library {
    void *handle;
    struct net_functions functions;
};

/* Loads the library at `path` if it is such a model; `handle` is NULL if it is not. */
void library_find(struct library *library, const char *path);

/* Safe on a zeroed struct. */
void library_close(struct library *library);

#endif
