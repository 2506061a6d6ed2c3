/* A candidate is a shared library, loaded by TVM's runtime. */
#include "candidate.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "process.h"
#include "tvm.h"

struct candidate {
    TVMFFIObjectHandle library, function;
    TVMFFIAny arguments[MAX_ARGUMENTS];
    int count;
    enum device device;
};

bool candidates_prepare(struct failure *failure)
{
    return tvm_open(failure); /* once, and not in every child; it starts no threads */
}

static bool make_argument(const struct tensor_type *type, int index, struct candidate *candidate,
                          struct failure *failure)
{
    TVMFFIObjectHandle tensor;
    void *data = malloc(type->size + 1);
    if (data == NULL)
        return fail(failure, STATUS_INTERNAL, "out of memory: argument %d takes %zu bytes", index,
                    type->size);
    fill_reproducible(type, data, (uint64_t)index);
    bool good = tvm_tensor(type, candidate->device, &tensor, failure) &&
                tvm_tensor_write(tensor, data, type->size, failure);
    free(data);
    if (good)
        candidate->arguments[candidate->count++] = tvm_object(tensor);
    return good;
}

static bool load(const struct job *job, int library, struct candidate *candidate, struct failure *failure)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", library);
    if (!tvm_open_device(candidate->device, failure) ||
        !tvm_load_module(path, &candidate->library, failure) ||
        !tvm_module_function(candidate->library, job->function, &candidate->function, failure))
        return false;
    if (candidate->function == NULL)
        return fail(failure, STATUS_MODEL, "the library has no function %s", job->function);
    for (int i = 0; i < job->argument_count; i++)
        if (!make_argument(&job->arguments[i], i, candidate, failure))
            return false;
    return true;
}

static bool call(void *kernel, int64_t calls, struct failure *failure)
{
    const struct candidate *candidate = kernel;
    for (int64_t i = 0; i < calls; i++)
        if (!tvm_call(candidate->function, "the kernel failed", candidate->arguments, candidate->count, NULL, failure))
            return false;
    return tvm_synchronise(candidate->device, failure);
}

_Noreturn void candidate_child(const struct job *job, int program, const struct options *options, int shared,
                               struct verdict *verdict)
{
    struct candidate candidate = {.device = options->device};
    (void)shared;
    isolate();
    bool good = set_threads(options->core_count > 0 ? options->core_count : 1, &verdict->failure) &&
                pin_cores(options->cores, options->core_count, &verdict->failure) &&
                load(job, program, &candidate, &verdict->failure) &&
                take_samples(call, &candidate, options->repeats, options->min_ms, verdict);
    if (good)
        verdict->failure.status = STATUS_OK;
    verdict->done = true;
    _exit(0); /* no destructors: a broken kernel may have corrupted memory */
}
