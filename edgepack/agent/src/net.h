/* A model with its own runtime: a shared library that has the functions of edgepack.h. */
#ifndef EDGEPACK_AGENT_NET_H
#define EDGEPACK_AGENT_NET_H

#include "dtype.h"
#include "edgepack.h"

struct net {
    void *library;
    const edgepack_net *net;
    edgepack_model *model;
};

/* Loads the library at `path` if it is such a model; `net->library` is NULL if it is not. */
void net_find(struct net *net, const char *path);

/* Reads its weights and starts its threads; `inputs` is how many inputs it must have. */
bool net_open(struct net *net, const char *path, int64_t threads, int inputs, struct failure *failure);

/* Whether the inputs have these types. */
bool net_check_inputs(const struct net *net, const struct tensor_type *types, struct failure *failure);

bool net_write(struct net *net, int input, const void *data, size_t size, struct failure *failure);
bool net_run(struct net *net, struct failure *failure);
int net_outputs(const struct net *net);
bool net_output_type(const struct net *net, int output, struct tensor_type *type, struct failure *failure);
bool net_read(const struct net *net, int output, void *data, size_t size, struct failure *failure);

/* Safe on a zeroed struct. */
void net_close(struct net *net);

#endif
