/* A model with its own runtime: the functions of edgepack.h, in the model's library or linked into the agent. */
#ifndef EDGEPACK_AGENT_NET_H
#define EDGEPACK_AGENT_NET_H

#include "dtype.h"
#include "edgepack.h"

/* The model, and the runtime that it is linked with. */
struct net_functions {
    const edgepack_net *net;
    const char *index_ranges;
    edgepack_status (*open)(const edgepack_net *, const char *, int, edgepack_model **, char *);
    void (*close)(edgepack_model *);
    int (*input_count)(const edgepack_net *);
    int (*output_count)(const edgepack_net *);
    const edgepack_tensor *(*input_info)(const edgepack_net *, int);
    const edgepack_tensor *(*output_info)(const edgepack_net *, int);
    edgepack_status (*set_input)(edgepack_model *, int, const void *, size_t);
    edgepack_status (*run)(edgepack_model *);
    edgepack_status (*profile)(edgepack_model *, uint64_t *);
    int (*kernel_count)(const edgepack_net *);
    const char *(*kernel_name)(const edgepack_net *, int);
    const void *(*output)(const edgepack_model *, int);
};

struct net {
    const struct net_functions *of; /* NULL: the model has no runtime of its own */
    edgepack_model *model;
};

/* Reads the weights of the model at `path` and starts its threads; `inputs` is how many inputs it must have. */
bool net_open(struct net *net, const char *path, int64_t threads, int inputs, struct failure *failure);

/* Whether the inputs have these types. */
bool net_check_inputs(const struct net *net, const struct tensor_type *types, struct failure *failure);

bool net_write(struct net *net, int input, const void *data, size_t size, struct failure *failure);
bool net_run(struct net *net, struct failure *failure);

/* The kernels that an inference calls, in order; net_profile is net_run with the time in nanoseconds of each call. */
int net_kernels(const struct net *net);
const char *net_kernel(const struct net *net, int number);
bool net_profile(struct net *net, uint64_t *times, struct failure *failure);

int net_outputs(const struct net *net);
bool net_output_type(const struct net *net, int output, struct tensor_type *type, struct failure *failure);
bool net_read(const struct net *net, int output, void *data, size_t size, struct failure *failure);

/* Safe on a zeroed struct. */
void net_close(struct net *net);

#endif
