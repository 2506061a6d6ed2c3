/* Inputs and outputs of a model, as .npy files and as JSON. */
#ifndef EDGEPACK_FEED_H
#define EDGEPACK_FEED_H

#include "agent.h"
#include "json.h"
#include "model.h"
#include "npy.h"

/* The model's inputs: open files, and one buffer that is large enough for a sample of each. */
struct inputs {
    struct npy files[MAX_TENSORS];
    struct tensor_type types[MAX_TENSORS]; /* of one sample */
    int count;
    int64_t samples;
    char *buffer;
};

/* Opens every --input. With --each they share a leading axis of samples; `types` are without it. */
bool inputs_open(struct inputs *inputs, const struct options *options, struct failure *failure);

/* Checks the next sample of every file, and copies it into the model. */
bool inputs_next(struct inputs *inputs, struct model *model, struct failure *failure);

/* Sets threads and cores, and loads the model for these inputs. */
bool prepare(struct model *model, struct inputs *inputs, const struct options *options, struct failure *failure);

/* Ends a line of JSON that must reach stdout. */
bool finish(struct json *json, struct failure *failure);

/* Safe on a zeroed struct. */
void inputs_close(struct inputs *inputs);

/* One output: its type, the count of values that are not finite, and its file if it is written. */
struct output {
    struct tensor_type type;
    int64_t nan, inf;
    struct npy file;
    char path[4096];
};

struct outputs {
    struct output each[MAX_TENSORS];
    int count;
    char *buffer;
    size_t size;
};

/* Fetches output `index` into the buffer, checks that its type is that of earlier samples, counts. */
bool outputs_fetch(struct outputs *outputs, int index, const struct model *model, bool first,
                   struct failure *failure);

/* Fetches all outputs of sample number `sample` and appends them to their files. */
bool outputs_save(struct outputs *outputs, const struct model *model, const struct options *options,
                  int64_t sample, int64_t samples, struct failure *failure);

/* Closes the files. A failure here is reported only if `good`, i.e. there was none before. */
bool outputs_close(struct outputs *outputs, bool good, struct failure *failure);

/* The member "outputs": dtype, shape of one sample, and values that are not finite, over all samples. */
void outputs_write(struct json *json, const struct outputs *outputs);

#endif
