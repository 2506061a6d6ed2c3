#include "feed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "process.h"
#include "ranges.h"

static bool split_samples(struct inputs *inputs, int i, struct failure *failure)
{
    const struct tensor_type *whole = &inputs->files[i].type;
    struct tensor_type *one = &inputs->types[i];
    if (whole->rank == 0 || (i > 0 && whole->shape[0] != inputs->samples))
        return fail(failure, STATUS_INPUT,
                    "%s cannot be used: with --each all inputs need a first axis of the same length",
                    inputs->files[i].path);
    inputs->samples = whole->shape[0];
    one->rank = whole->rank - 1;
    memmove(one->shape, whole->shape + 1, (size_t)one->rank * sizeof one->shape[0]);
    if (!tensor_type_complete(one, failure))
        return false;
    /* Samples without elements take no space in a file: a header may claim any number of them. */
    if (one->size == 0 && inputs->samples > 1)
        return fail(failure, STATUS_INPUT, "%s cannot be used: its samples have no elements",
                    inputs->files[i].path);
    return true;
}

bool inputs_open(struct inputs *inputs, const struct options *options, struct failure *failure)
{
    size_t largest = 1;
    *inputs = (struct inputs){.samples = 1};
    for (int i = 0; i < options->input_count; i++) {
        inputs->count = i + 1;
        if (!npy_open(&inputs->files[i], options->inputs[i], failure))
            return false;
        inputs->types[i] = inputs->files[i].type;
        if (options->each && !split_samples(inputs, i, failure))
            return false;
        if (inputs->types[i].size > largest)
            largest = inputs->types[i].size;
    }
    inputs->buffer = malloc(largest);
    return inputs->buffer != NULL ||
           fail(failure, STATUS_INTERNAL, "out of memory: an input takes %zu bytes", largest);
}

bool inputs_next(struct inputs *inputs, struct model *model, struct failure *failure)
{
    for (int i = 0; i < inputs->count; i++)
        if (!npy_read(&inputs->files[i], inputs->buffer, inputs->types[i].size, failure) ||
            !check_range(model->index_ranges, i, &inputs->types[i], inputs->buffer, inputs->files[i].path,
                         failure) ||
            !model_write(model, i, inputs->buffer, inputs->types[i].size, failure))
            return false;
    return true;
}

bool prepare(struct model *model, struct inputs *inputs, const struct options *options, struct failure *failure)
{
    enter_stage("loading the model");
    return set_threads(options->threads, failure) &&
           pin_cores(options->cores, options->core_count, failure) &&
           model_load(model, options->model, options->device, options->threads, inputs->count, failure) &&
           model_set_inputs(model, inputs->types, inputs->count, failure);
}

bool finish(struct json *json, struct failure *failure)
{
    return json_end(json) || fail(failure, STATUS_OUTPUT, "stdout cannot be written: %s", strerror(errno));
}

void inputs_close(struct inputs *inputs)
{
    struct failure ignored; /* errors on files that were only read do not matter */
    for (int i = 0; i < inputs->count; i++)
        npy_close(&inputs->files[i], &ignored);
    free(inputs->buffer);
}

static bool output_create(struct output *output, int index, const struct options *options, int64_t samples,
                          struct failure *failure)
{
    struct tensor_type stacked = output->type;
    if (options->each) {
        if (stacked.rank == MAX_RANK)
            return fail(failure, STATUS_MODEL, "output %d has too many dimensions to be stacked", index);
        memmove(stacked.shape + 1, stacked.shape, (size_t)stacked.rank * sizeof stacked.shape[0]);
        stacked.shape[0] = samples;
        stacked.rank++;
    }
    if (snprintf(output->path, sizeof output->path, "%s/output-%d.npy", options->output_dir, index) >=
        (int)sizeof output->path)
        return fail(failure, STATUS_USAGE, "--output-dir is too long");
    return npy_create(&output->file, output->path, &stacked, failure);
}

bool outputs_fetch(struct outputs *outputs, int index, const struct model *model, bool first,
                   struct failure *failure)
{
    struct output *output = &outputs->each[index];
    struct tensor_type type;
    int64_t nan, inf;
    if (!model_output_type(model, index, &type, failure))
        return false;
    if (!first &&
        (type.rank != output->type.rank || memcmp(type.shape, output->type.shape, sizeof type.shape) != 0))
        return fail(failure, STATUS_MODEL, "output %d changes its shape between samples", index);
    if (type.size > outputs->size) {
        char *larger = realloc(outputs->buffer, type.size);
        if (larger == NULL)
            return fail(failure, STATUS_INTERNAL, "out of memory: output %d takes %zu bytes", index,
                        type.size);
        outputs->buffer = larger;
        outputs->size = type.size;
    }
    output->type = type;
    if (!model_read(model, index, outputs->buffer, type.size, failure))
        return false;
    count_not_finite(type.dtype, outputs->buffer, type.size, &nan, &inf);
    output->nan += nan;
    output->inf += inf;
    return true;
}

bool outputs_save(struct outputs *outputs, const struct model *model, const struct options *options,
                  int64_t sample, int64_t samples, struct failure *failure)
{
    if (sample > 0 && model->output_count != outputs->count)
        return fail(failure, STATUS_MODEL, "the model changes its number of outputs between samples");
    for (outputs->count = 0; outputs->count < model->output_count;) {
        int i = outputs->count++;
        struct output *output = &outputs->each[i];
        if (!outputs_fetch(outputs, i, model, sample == 0, failure) ||
            (sample == 0 && !output_create(output, i, options, samples, failure)) ||
            !npy_write(&output->file, outputs->buffer, output->type.size, failure))
            return false;
    }
    return true;
}

bool outputs_close(struct outputs *outputs, bool good, struct failure *failure)
{
    struct failure second;
    for (int i = 0; i < outputs->count; i++)
        good = npy_close(&outputs->each[i].file, good ? failure : &second) && good;
    free(outputs->buffer);
    return good;
}

void outputs_write(struct json *json, const struct outputs *outputs)
{
    json_open(json, "outputs", '[');
    for (int i = 0; i < outputs->count; i++) {
        const struct output *output = &outputs->each[i];
        json_open(json, NULL, '{');
        json_text(json, "dtype", output->type.dtype->name);
        json_open(json, "shape", '[');
        for (int axis = 0; axis < output->type.rank; axis++)
            json_integer(json, NULL, output->type.shape[axis]);
        json_close(json, ']');
        json_integer(json, "nan", output->nan);
        json_integer(json, "inf", output->inf);
        json_close(json, '}');
    }
    json_close(json, ']');
}
