/* A compiled model, and its weights in the file beside it. */
#ifndef EDGEPACK_MODEL_H
#define EDGEPACK_MODEL_H

#include "device.h"
#include "net.h"

struct model {
    struct net net;           /* if the model has its own runtime */
    struct loaded *loaded;    /* a library that was loaded */
    const char *index_ranges; /* NULL if it has none */
    int output_count;         /* of the last run */
};

/* Loads the model at `path` and its weights; `inputs` is how many inputs it must have. */
bool model_load(struct model *model, const char *path, enum device device, int64_t threads, int inputs,
                struct failure *failure);

/* Makes room for inputs of these types; false if the model is known to take others. */
bool model_set_inputs(struct model *model, const struct tensor_type *types, int count,
                      struct failure *failure);

bool model_write(struct model *model, int input, const void *data, size_t size, struct failure *failure);

/* One inference, finished on the device when it returns. */
bool model_run(struct model *model, struct failure *failure);

/* An output of the last run: its type, then its elements. */
bool model_output_type(const struct model *model, int output, struct tensor_type *type, struct failure *failure);
bool model_read(const struct model *model, int output, void *data, size_t size, struct failure *failure);

/* Safe on a zeroed struct. */
void model_free(struct model *model);

#endif
