/* The weights of a model that is open, as its kernels read them: those that the weights file has in that form are read
 * where it is mapped, the others are decoded or computed, once, into memory of their own. */
#ifndef EDGEPACK_WEIGHTS_H
#define EDGEPACK_WEIGHTS_H

#include "edgepack_net.h"
#include "pool.h"
#include "weightfile.h"

struct weights {
    struct weightfile file; /* while weights are used where it is */
    uint8_t *own;
    const uint8_t **kept; /* the address of each weight */
};

/* Reads the file at a path or, if that is NULL, the one in memory, with the threads of the pool. What is needed only
 * while loading is given back to the system. False with a problem that is not about arguments. */
bool weights_load(struct weights *weights, const struct net_details *net, struct pool *pool, const char *path,
                  const void *data, uint64_t size, struct weights_problem *problem);

/* Safe after weights_load has failed, and on a zeroed struct. */
void weights_free(struct weights *weights, const struct net_details *net);

#endif
