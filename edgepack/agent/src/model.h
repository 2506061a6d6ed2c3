/* A compiled model: a shared library, and its weights in the file beside it. */
#ifndef EDGEPACK_MODEL_H
#define EDGEPACK_MODEL_H

#include "tvm.h"

enum { MAX_TENSORS = 16 };

struct model {
    enum device device;
    TVMFFIObjectHandle library, entry;
    const char *index_ranges; /* in the library; NULL if it has none */
    TVMFFIObjectHandle inputs[MAX_TENSORS];
    int input_count;
    TVMFFIObjectHandle outputs[MAX_TENSORS]; /* of the last run; in the order of the model's results */
    int output_count;
};

/* Loads the library at `path` and its weights; `inputs` is how many inputs it must have. */
bool model_load(struct model *model, const char *path, enum device device, int inputs, struct failure *failure);

/* Allocates the inputs on the device. */
bool model_set_inputs(struct model *model, const struct tensor_type *types, int count,
                      struct failure *failure);

/* One inference: from the inputs to `outputs`, finished on the device when it returns. */
bool model_run(struct model *model, struct failure *failure);

/* Safe on a zeroed struct. */
void model_free(struct model *model);

#endif
