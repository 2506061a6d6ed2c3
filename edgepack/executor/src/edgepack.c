#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "edgepack_net.h"
#include "memory.h"
#include "pool.h"
#include "weights.h"

enum { ALIGNMENT = 64, MOST_THREADS = 1024 };

const char edgepack_runtime = EDGEPACK_API;

struct edgepack_model {
    const struct net_details *net;
    struct pool *pool;
    struct weights weights;
    uint8_t *arena;
    void **own, **bound; /* of inputs, then outputs */
};

__attribute__((format(printf, 3, 4))) static edgepack_status problem(edgepack_status status, char *why, const char *format, ...)
{
    if (why != NULL) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(why, EDGEPACK_TEXT, format, arguments);
        va_end(arguments);
    }
    return status;
}

static uint64_t aligned(uint64_t size)
{
    return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static bool allocate(edgepack_model *model)
{
    const struct net_details *net = model->net;
    const int count = net->input_count + net->output_count;
    model->own = calloc((size_t)count + 1, sizeof *model->own);
    model->bound = calloc((size_t)count + 1, sizeof *model->bound);
    model->arena = memory_new(net->arena);
    if (model->own == NULL || model->bound == NULL || model->arena == NULL)
        return false;
    for (int i = 0; i < count; i++) {
        const edgepack_tensor *tensor = i < net->input_count ? &net->inputs[i] : &net->outputs[i - net->input_count];
        model->own[i] = aligned_alloc(ALIGNMENT, aligned(tensor->size + 1));
        if (model->own[i] == NULL)
            return false;
        memset(model->own[i], 0, tensor->size);
        model->bound[i] = model->own[i];
    }
    return true;
}

/* Whether this runtime and this CPU can run a model. */
static edgepack_status check(const edgepack_net *given, char *why)
{
    const struct net_details *net = given->details;
    char missing[EDGEPACK_TEXT / 2];
    if (given->version != EDGEPACK_NET_VERSION)
        return problem(EDGEPACK_OTHER_RUNTIME, why, "the model was compiled for version %llu of the runtime, and this is %d",
                       (unsigned long long)given->version, EDGEPACK_NET_VERSION);
    if (net->runtime != &edgepack_runtime)
        return problem(EDGEPACK_OTHER_RUNTIME, why, "%s has a runtime of its own: its library's edgepack_open opens it",
                       net->name);
    if (!cpu_has(net->features, missing, sizeof missing))
        return problem(EDGEPACK_CPU, why, "%s was compiled for a CPU with %s, which this one lacks", net->name, missing);
    return EDGEPACK_OK;
}

/* Where the weights are: in a file, or in memory. */
struct source {
    const char *path;
    const void *data;
    uint64_t size;
};

static edgepack_status load(edgepack_model *model, struct source source, char *why)
{
    struct weights_problem found = {0};
    const struct net_details *net = model->net;
    if (net->stored_count == 0)
        return EDGEPACK_OK;
    if (source.path == NULL && source.data == NULL)
        return problem(EDGEPACK_ARGUMENT, why, "%s has a weights file, and none is given", net->name);
    if (weights_load(&model->weights, net, model->pool, source.path, source.data, source.size, &found))
        return EDGEPACK_OK;
    return problem(found.out_of_memory ? EDGEPACK_MEMORY : EDGEPACK_WEIGHTS, why, "%s: %s",
                   source.path != NULL ? source.path : "weights in memory", found.text);
}

static edgepack_status open_from(const edgepack_net *net, struct source source, int threads, edgepack_model **opened,
                                 char *why)
{
    if (opened != NULL)
        *opened = NULL;
    if (net == NULL || opened == NULL || threads < 1 || threads > MOST_THREADS)
        return problem(EDGEPACK_ARGUMENT, why, "net and model must be given, and threads from 1 to %d", MOST_THREADS);
    edgepack_status status = check(net, why);
    if (status != EDGEPACK_OK)
        return status;
    edgepack_model *model = calloc(1, sizeof *model);
    if (model == NULL)
        return problem(EDGEPACK_MEMORY, why, "out of memory");
    model->net = net->details;
    if (source.path == NULL && source.data == NULL)
        source = (struct source){NULL, model->net->embedded, model->net->embedded_size};
    if (!allocate(model))
        status = problem(EDGEPACK_MEMORY, why, "out of memory: an arena of %llu bytes",
                         (unsigned long long)model->net->arena);
    if (status == EDGEPACK_OK && (model->pool = pool_new(threads, model->net->workspace)) == NULL)
        status = problem(EDGEPACK_MEMORY, why, "%d threads cannot be started", threads);
    if (status == EDGEPACK_OK)
        status = load(model, source, why);
    if (status == EDGEPACK_OK)
        *opened = model;
    else
        edgepack_close(model);
    return status;
}

edgepack_status edgepack_open(const edgepack_net *net, const char *weights, int threads, edgepack_model **model,
                              char why[EDGEPACK_TEXT])
{
    return open_from(net, (struct source){weights, NULL, 0}, threads, model, why);
}

edgepack_status edgepack_open_memory(const edgepack_net *net, const void *weights, size_t size, int threads,
                                     edgepack_model **model, char why[EDGEPACK_TEXT])
{
    if (model != NULL)
        *model = NULL;
    if (weights == NULL)
        return problem(EDGEPACK_ARGUMENT, why, "weights must be given");
    return open_from(net, (struct source){NULL, weights, size}, threads, model, why);
}

void edgepack_close(edgepack_model *model)
{
    if (model == NULL)
        return;
    pool_free(model->pool);
    for (int i = 0; model->own != NULL && i < model->net->input_count + model->net->output_count; i++)
        free(model->own[i]);
    free(model->own);
    free(model->bound);
    weights_free(&model->weights, model->net);
    memory_free(model->arena, model->net->arena);
    free(model);
}

int edgepack_input_count(const edgepack_net *net)
{
    return net == NULL ? 0 : net->details->input_count;
}

int edgepack_output_count(const edgepack_net *net)
{
    return net == NULL ? 0 : net->details->output_count;
}

static const edgepack_tensor *tensor_of(const struct net_details *net, bool input, int number)
{
    if (number < 0 || number >= (input ? net->input_count : net->output_count))
        return NULL;
    return input ? &net->inputs[number] : &net->outputs[number];
}

const edgepack_tensor *edgepack_input_info(const edgepack_net *net, int number)
{
    return net == NULL ? NULL : tensor_of(net->details, true, number);
}

const edgepack_tensor *edgepack_output_info(const edgepack_net *net, int number)
{
    return net == NULL ? NULL : tensor_of(net->details, false, number);
}

/* The place of an input among all tensors; -1 if there is none of this number and size. */
static int place_of(const edgepack_model *model, bool input, int number, size_t size)
{
    const edgepack_tensor *tensor = model == NULL ? NULL : tensor_of(model->net, input, number);
    if (tensor == NULL || tensor->size != size)
        return -1;
    return input ? number : model->net->input_count + number;
}

edgepack_status edgepack_set_input(edgepack_model *model, int number, const void *data, size_t size)
{
    const int place = place_of(model, true, number, size);
    if (place < 0 || (data == NULL && size > 0))
        return EDGEPACK_ARGUMENT;
    if (pool_busy(model->pool))
        return EDGEPACK_BUSY;
    model->bound[place] = model->own[place];
    if (size > 0)
        memcpy(model->own[place], data, size);
    return EDGEPACK_OK;
}

static edgepack_status bind(edgepack_model *model, int place, void *data)
{
    if (place < 0 || (uintptr_t)data % ALIGNMENT != 0)
        return EDGEPACK_ARGUMENT;
    if (pool_busy(model->pool))
        return EDGEPACK_BUSY;
    model->bound[place] = data != NULL ? data : model->own[place];
    return EDGEPACK_OK;
}

edgepack_status edgepack_bind_input(edgepack_model *model, int number, const void *data, size_t size)
{
    return bind(model, place_of(model, true, number, size), (void *)(uintptr_t)data);
}

edgepack_status edgepack_bind_output(edgepack_model *model, int number, void *data, size_t size)
{
    return bind(model, place_of(model, false, number, size), data);
}

/* One inference, with times if they are asked for. */
static edgepack_status run(edgepack_model *model, uint64_t *times)
{
    if (!pool_enter(model->pool))
        return EDGEPACK_BUSY;
    const struct net_details *net = model->net;
    void *const *in = model->bound, *const *out = model->bound + net->input_count;
    const int32_t failed = times == NULL ? net->infer(in, out, model->weights.kept, model->arena)
                                         : net->profile(in, out, model->weights.kept, model->arena, times);
    pool_leave(model->pool);
    return failed ? EDGEPACK_MEMORY : EDGEPACK_OK;
}

edgepack_status edgepack_run(edgepack_model *model)
{
    return model == NULL ? EDGEPACK_ARGUMENT : run(model, NULL);
}

int edgepack_kernel_count(const edgepack_net *net)
{
    return net == NULL ? 0 : net->details->kernel_count;
}

const char *edgepack_kernel_name(const edgepack_net *net, int number)
{
    return number < 0 || number >= edgepack_kernel_count(net) ? NULL : net->details->kernels[number];
}

edgepack_status edgepack_profile(edgepack_model *model, uint64_t *nanoseconds)
{
    return model == NULL || nanoseconds == NULL ? EDGEPACK_ARGUMENT : run(model, nanoseconds);
}

const void *edgepack_output(const edgepack_model *model, int number)
{
    if (model == NULL || tensor_of(model->net, false, number) == NULL)
        return NULL;
    return model->bound[model->net->input_count + number];
}
