/* A model for TVM's virtual machine. */
#ifndef EDGEPACK_MACHINE_H
#define EDGEPACK_MACHINE_H

#include "tvm.h"

struct machine {
    enum device device;
    TVMFFIObjectHandle library, entry;
    TVMFFIObjectHandle inputs[MAX_TENSORS];
    int input_count;
    TVMFFIObjectHandle outputs[MAX_TENSORS]; /* of the last run; in the order of the model's results */
    int output_count;
};

/* Loads the library at `path` and its weights; `inputs` is how many inputs it must have. */
bool machine_load(struct machine *machine, const char *path, enum device device, int inputs, struct failure *failure);

/* Allocates the inputs on the device. */
bool machine_set_inputs(struct machine *machine, const struct tensor_type *types, int count,
                      struct failure *failure);

/* One inference: from the inputs to `outputs`, finished on the device when it returns. */
bool machine_run(struct machine *machine, struct failure *failure);

/* Copies an input to the device, or an output from it: its type, then its elements. */
bool machine_write(struct machine *machine, int input, const void *data, size_t size, struct failure *failure);
bool machine_output_type(const struct machine *machine, int output, struct tensor_type *type,
                         struct failure *failure);
bool machine_read(const struct machine *machine, int output, void *data, size_t size, struct failure *failure);

/* Safe on a zeroed struct. */
void machine_free(struct machine *machine);

#endif
