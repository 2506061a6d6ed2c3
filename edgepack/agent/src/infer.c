/* `run` and `bench`: a model on inputs from .npy files. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "agent.h"
#include "board.h"
#include "json.h"
#include "model.h"
#include "npy.h"

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The model's inputs: open files, and one buffer that is large enough for a sample of any. */
struct inputs {
    struct npy files[MAX_TENSORS];
    struct tensor_type types[MAX_TENSORS]; /* of one sample */
    int count;
    int64_t samples;
    char *buffer;
};

static bool split_samples(struct inputs *inputs, int i, struct failure *failure)
{
    const struct tensor_type *whole = &inputs->files[i].type;
    struct tensor_type *one = &inputs->types[i];
    if (whole->rank == 0 || (i > 0 && whole->shape[0] != inputs->samples))
        return fail(failure, STATUS_INPUT, "%s cannot be used: with --each all inputs need a first axis of the same length", inputs->files[i].path);
    inputs->samples = whole->shape[0];
    one->rank = whole->rank - 1;
    memmove(one->shape, whole->shape + 1, (size_t)one->rank * sizeof one->shape[0]);
    return tensor_type_complete(one, failure);
}

static bool inputs_open(struct inputs *inputs, const struct options *options, struct failure *failure)
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
    return inputs->buffer != NULL || fail(failure, STATUS_INTERNAL, "out of memory: an input takes %zu bytes", largest);
}

/* Copies the next sample of every file into the model. */
static bool inputs_next(struct inputs *inputs, struct model *model, struct failure *failure)
{
    for (int i = 0; i < inputs->count; i++)
        if (!npy_read(&inputs->files[i], inputs->buffer, inputs->types[i].size, failure) ||
            !tvm_tensor_write(model->inputs[i], inputs->buffer, inputs->types[i].size, failure))
            return false;
    return true;
}

static void inputs_close(struct inputs *inputs)
{
    struct failure ignored; /* files that were only read have nothing to lose */
    for (int i = 0; i < inputs->count; i++)
        npy_close(&inputs->files[i], &ignored);
    free(inputs->buffer);
}

/* One output: its type, the count of values that are not finite, and its file where one is written. */
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

static bool output_type(const DLTensor *view, struct tensor_type *type, struct failure *failure)
{
    *type = (struct tensor_type){.dtype = dtype_by_dl(view->dtype), .rank = view->ndim};
    if (type->dtype == NULL)
        return fail(failure, STATUS_MODEL, "an output has a dtype (code %d, %d bits) that .npy cannot hold", view->dtype.code, view->dtype.bits);
    if (view->ndim > MAX_RANK)
        return fail(failure, STATUS_MODEL, "an output has %d dimensions, more than %d", view->ndim, MAX_RANK);
    memcpy(type->shape, view->shape, (size_t)view->ndim * sizeof view->shape[0]);
    return tensor_type_complete(type, failure);
}

static bool output_create(struct output *output, int index, const struct options *options, int64_t samples, struct failure *failure)
{
    struct tensor_type stacked = output->type;
    if (options->each) {
        if (stacked.rank == MAX_RANK)
            return fail(failure, STATUS_MODEL, "output %d has too many dimensions to be stacked", index);
        memmove(stacked.shape + 1, stacked.shape, (size_t)stacked.rank * sizeof stacked.shape[0]);
        stacked.shape[0] = samples;
        stacked.rank++;
    }
    if (snprintf(output->path, sizeof output->path, "%s/output-%d.npy", options->output_dir, index) >= (int)sizeof output->path)
        return fail(failure, STATUS_USAGE, "--output-dir is too long");
    return npy_create(&output->file, output->path, &stacked, failure);
}

/* Fetches output `index` into the buffer, checks that its type is that of earlier samples, counts. */
static bool output_fetch(struct outputs *outputs, int index, TVMFFIObjectHandle tensor, bool first, struct failure *failure)
{
    struct output *output = &outputs->each[index];
    struct tensor_type type;
    int64_t nan, inf;
    if (!output_type(tvm_tensor_view(tensor), &type, failure))
        return false;
    if (!first && (type.rank != output->type.rank || memcmp(type.shape, output->type.shape, sizeof type.shape) != 0))
        return fail(failure, STATUS_MODEL, "output %d changes its shape between samples", index);
    if (type.size > outputs->size) {
        char *larger = realloc(outputs->buffer, type.size);
        if (larger == NULL)
            return fail(failure, STATUS_INTERNAL, "out of memory: output %d takes %zu bytes", index, type.size);
        outputs->buffer = larger;
        outputs->size = type.size;
    }
    output->type = type;
    if (!tvm_tensor_read(tensor, outputs->buffer, type.size, failure))
        return false;
    count_not_finite(type.dtype, outputs->buffer, type.size, &nan, &inf);
    output->nan += nan;
    output->inf += inf;
    return true;
}

static bool outputs_save(struct outputs *outputs, const struct model *model, const struct options *options, int64_t sample, int64_t samples, struct failure *failure)
{
    if (sample > 0 && model->output_count != outputs->count)
        return fail(failure, STATUS_MODEL, "the model changes its number of outputs between samples");
    for (outputs->count = 0; outputs->count < model->output_count;) {
        int i = outputs->count++;
        struct output *output = &outputs->each[i];
        if (!output_fetch(outputs, i, model->outputs[i], sample == 0, failure) ||
            (sample == 0 && !output_create(output, i, options, samples, failure)) ||
            !npy_write(&output->file, outputs->buffer, output->type.size, failure))
            return false;
    }
    return true;
}

static bool outputs_close(struct outputs *outputs, bool good, struct failure *failure)
{
    struct failure second;
    for (int i = 0; i < outputs->count; i++)
        good = npy_close(&outputs->each[i].file, good ? failure : &second) && good;
    free(outputs->buffer);
    return good;
}

static void write_outputs(struct json *json, const struct outputs *outputs)
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

static bool finish(struct json *json, struct failure *failure)
{
    return json_end(json) || fail(failure, STATUS_OUTPUT, "stdout cannot be written: %s", strerror(errno));
}

static bool prepare(struct model *model, struct inputs *inputs, const struct options *options, struct failure *failure)
{
    crash_report();
    crash_stage("loading the model");
    return set_threads(options->threads, failure) && pin_cores(options->cores, options->core_count, failure) &&
           model_load(model, options->model, options->device, failure) &&
           model_set_inputs(model, inputs->types, inputs->count, failure);
}

static bool run_samples(struct model *model, struct inputs *inputs, struct outputs *outputs, const struct options *options, struct failure *failure)
{
    if (mkdir(options->output_dir, 0777) != 0 && errno != EEXIST)
        return fail(failure, STATUS_OUTPUT, "%s cannot be created: %s", options->output_dir, strerror(errno));
    if (inputs->samples == 0)
        return fail(failure, STATUS_INPUT, "the inputs hold no sample");
    crash_stage("running the model");
    for (int64_t sample = 0; sample < inputs->samples; sample++)
        if (!inputs_next(inputs, model, failure) || !model_run(model, failure) ||
            !outputs_save(outputs, model, options, sample, inputs->samples, failure))
            return false;
    return true;
}

bool run(const struct options *options, struct failure *failure)
{
    static struct outputs outputs;
    struct inputs inputs;
    struct model model = {0};
    bool good = inputs_open(&inputs, options, failure) && prepare(&model, &inputs, options, failure) &&
                run_samples(&model, &inputs, &outputs, options, failure);
    good = outputs_close(&outputs, good, failure);
    if (good) {
        struct json json = {stdout, false};
        json_open(&json, NULL, '{');
        json_bool(&json, "ok", true);
        json_integer(&json, "samples", inputs.samples);
        write_outputs(&json, &outputs);
        good = finish(&json, failure);
    }
    model_free(&model);
    inputs_close(&inputs);
    return good;
}

/* Runs the model `count` times and keeps the duration of each, where `samples` is given. */
static bool time_runs(struct model *model, int64_t count, int64_t *samples, struct failure *failure)
{
    for (int64_t i = 0; i < count; i++) {
        int64_t start = now_ns();
        if (!model_run(model, failure))
            return false;
        if (samples != NULL)
            samples[i] = now_ns() - start;
    }
    return true;
}

static bool write_start(const struct options *options, double load_ms, double first_ms, struct failure *failure)
{
    struct json json = {stdout, false};
    json_open(&json, NULL, '{');
    json_bool(&json, "ok", true);
    json_integer(&json, "protocol", PROTOCOL_VERSION);
    json_real(&json, "load_ms", load_ms);
    json_real(&json, "first_ms", first_ms);
    json_integer(&json, "warmup", options->warmup);
    json_integer(&json, "runs", options->runs);
    json_integer(&json, "threads", options->threads);
    board_state(&json, "before", "");
    return finish(&json, failure);
}

static bool write_samples(const int64_t *samples, int64_t count, struct failure *failure)
{
    for (int64_t i = 0; i < count; i++)
        printf("{\"ns\":%lld}\n", (long long)samples[i]);
    return fflush(stdout) == 0 || fail(failure, STATUS_OUTPUT, "stdout cannot be written: %s", strerror(errno));
}

static bool write_end(const struct outputs *outputs, struct failure *failure)
{
    struct json json = {stdout, false};
    json_open(&json, NULL, '{');
    json_integer(&json, "peak_rss_kib", board_kib("", "/proc/self/status", "VmHWM"));
    write_outputs(&json, outputs);
    board_state(&json, "after", "");
    return finish(&json, failure);
}

/* The timed part. Nothing is printed between the first and the last run. */
static bool bench_model(struct model *model, struct inputs *inputs, const struct options *options, int64_t started, int64_t *samples, struct failure *failure)
{
    static struct outputs outputs;
    int64_t loaded = now_ns(), first;
    crash_stage("running the model");
    if (!inputs_next(inputs, model, failure) || !time_runs(model, 1, &first, failure) ||
        !write_start(options, (double)(loaded - started) / 1e6, (double)first / 1e6, failure) ||
        !time_runs(model, options->warmup, NULL, failure) || !time_runs(model, options->runs, samples, failure))
        return false;
    bool good = true;
    for (outputs.count = 0; good && outputs.count < model->output_count; outputs.count++)
        good = output_fetch(&outputs, outputs.count, model->outputs[outputs.count], true, failure);
    good = good && write_samples(samples, options->runs, failure) && write_end(&outputs, failure);
    return outputs_close(&outputs, good, failure);
}

bool bench(const struct options *options, struct failure *failure)
{
    struct inputs inputs;
    struct model model = {0};
    int64_t *samples = calloc((size_t)options->runs, sizeof *samples);
    bool good = samples != NULL || fail(failure, STATUS_INTERNAL, "out of memory");
    good = inputs_open(&inputs, options, failure) && good;
    int64_t started = now_ns();
    good = good && prepare(&model, &inputs, options, failure) && bench_model(&model, &inputs, options, started, samples, failure);
    model_free(&model);
    inputs_close(&inputs);
    free(samples);
    return good;
}
