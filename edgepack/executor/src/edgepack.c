#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cpu.h"
#include "edgepack_net.h"
#include "pool.h"
#include "weightfile.h"

enum { ALIGNMENT = 64, MOST_THREADS = 1024 };

const char edgepack_runtime = EDGEPACK_API;

struct edgepack_model {
    const struct net_details *net;
    struct pool *pool;
    uint8_t *weights, *arena;
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

static void *map(uint64_t size)
{
    void *memory = mmap(NULL, size + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static edgepack_status read_weights(edgepack_model *model, const char *path, char *why)
{
    const struct net_details *net = model->net;
    const struct weights_identity expected = {net->stored_count, net->index_crc, net->stored_bytes};
    struct weightfile file;
    char text[WEIGHTS_PROBLEM];
    bool good = weightfile_open(&file, path, &expected, text);
    for (uint32_t i = 0; good && i < net->stored_count; i++) {
        const uint64_t size = file.weights[i].raw_bytes;
        if (size > net->weights_at_load - net->stored[i]) { /* the file was made to look like the model's */
            snprintf(text, sizeof text, "weight %u is larger than the model's", i);
            good = false;
        }
        good = good && (size == 0 || weightfile_read(&file, i, model->weights + net->stored[i], text));
    }
    const edgepack_status failed = file.out_of_memory ? EDGEPACK_MEMORY : EDGEPACK_WEIGHTS;
    weightfile_close(&file);
    return good ? EDGEPACK_OK : problem(failed, why, "%s: %s", path, text);
}

/* Reads the weights; what is needed only while loading is given back to the system. */
static edgepack_status load(edgepack_model *model, const char *path, char *why)
{
    const struct net_details *net = model->net;
    if (net->stored_count == 0)
        return EDGEPACK_OK;
    if (path == NULL)
        return problem(EDGEPACK_ARGUMENT, why, "%s has a weights file, and none is given", net->name);
    edgepack_status status = read_weights(model, path, why);
    if (status != EDGEPACK_OK)
        return status;
    uint8_t *arena = map(net->arena_at_load);
    if (arena == NULL)
        return problem(EDGEPACK_MEMORY, why, "out of memory: %llu bytes", (unsigned long long)net->arena_at_load);
    pool_enter(model->pool);
    int32_t failed = net->load(model->weights, arena);
    pool_leave(model->pool);
    munmap(arena, net->arena_at_load + 1);
    if (failed)
        return problem(EDGEPACK_MEMORY, why, "the weights cannot be decoded: out of memory");
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), kept = (net->weights + page) / page * page;
    if (kept < net->weights_at_load)
        madvise(model->weights + kept, net->weights_at_load - kept, MADV_DONTNEED);
    mprotect(model->weights, net->weights_at_load + 1, PROT_READ);
    return EDGEPACK_OK;
}

static bool allocate(edgepack_model *model)
{
    const struct net_details *net = model->net;
    const int count = net->input_count + net->output_count;
    model->own = calloc((size_t)count + 1, sizeof *model->own);
    model->bound = calloc((size_t)count + 1, sizeof *model->bound);
    model->weights = map(net->weights_at_load);
    model->arena = map(net->arena);
    if (model->own == NULL || model->bound == NULL || model->weights == NULL || model->arena == NULL)
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

edgepack_status edgepack_open(const edgepack_net *net, const char *weights, int threads, edgepack_model **opened,
                              char why[EDGEPACK_TEXT])
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
    if (!allocate(model))
        status = problem(EDGEPACK_MEMORY, why, "out of memory: %llu bytes",
                         (unsigned long long)(model->net->weights_at_load + model->net->arena));
    if (status == EDGEPACK_OK && (model->pool = pool_new(threads, model->net->workspace)) == NULL)
        status = problem(EDGEPACK_MEMORY, why, "%d threads cannot be started", threads);
    if (status == EDGEPACK_OK)
        status = load(model, weights, why);
    if (status == EDGEPACK_OK)
        *opened = model;
    else
        edgepack_close(model);
    return status;
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
    if (model->weights != NULL)
        munmap(model->weights, model->net->weights_at_load + 1);
    if (model->arena != NULL)
        munmap(model->arena, model->net->arena + 1);
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
    const int32_t failed = times == NULL ? net->infer(in, out, model->weights, model->arena)
                                         : net->profile(in, out, model->weights, model->arena, times);
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
