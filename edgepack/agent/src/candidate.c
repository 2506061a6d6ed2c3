#include "candidate.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "process.h"

struct candidate {
    TVMFFIObjectHandle library, function;
    TVMFFIAny arguments[MAX_ARGUMENTS];
    int count;
    enum device device;
};

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* The candidate must not read the frames, write to the results or leave a core file,
 * and must be killed before the agent when memory runs out. */
static void isolate(void)
{
    const struct rlimit no_core = {0, 0};
    int nothing = open("/dev/null", O_RDWR);
    for (int to = STDIN_FILENO; to <= STDERR_FILENO; to++)
        dup2(nothing, to);
    setrlimit(RLIMIT_CORE, &no_core);
    int score = open("/proc/self/oom_score_adj", O_WRONLY);
    if (score >= 0 && write(score, "1000", 4) == 4)
        close(score);
    for (int signal_number = 1; signal_number < NSIG; signal_number++)
        signal(signal_number, SIG_DFL);
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

/* Calls the kernel `calls` times in a row; `*ms` is the total time. */
static bool time_calls(const struct candidate *candidate, int64_t calls, double *ms, struct failure *failure)
{
    double start = now_ms();
    for (int64_t i = 0; i < calls; i++)
        if (!tvm_call(candidate->function, "the kernel failed", candidate->arguments, candidate->count, NULL,
                      failure))
            return false;
    if (!tvm_synchronise(candidate->device, failure))
        return false;
    *ms = now_ms() - start;
    return true;
}

/* Takes samples of at least `min_ms`: the number of calls is increased until a sample is long enough. The
 * first call is not counted, since it faults pages in. */
static bool sample(const struct candidate *candidate, const struct options *options, struct verdict *verdict)
{
    double ms;
    verdict->calls = 1;
    if (!time_calls(candidate, 1, &ms, &verdict->failure))
        return false;
    for (int64_t i = 0; i < options->repeats;) {
        if (!time_calls(candidate, verdict->calls, &ms, &verdict->failure))
            return false;
        verdict->ms[i] = ms / (double)verdict->calls;
        if (ms >= options->min_ms) {
            i++;
            continue;
        }
        double wanted = 1.1 * (double)verdict->calls * options->min_ms / (ms > 1e-3 ? ms : 1e-3);
        double most = 100 * (double)verdict->calls; /* the first sample may be too short to be reliable */
        verdict->calls = 1 + (int64_t)(wanted < most ? wanted : most);
        i = 0; /* samples with different numbers of calls are not comparable */
    }
    return true;
}

_Noreturn void candidate_child(const struct job *job, int library, const struct options *options,
                               struct verdict *verdict)
{
    struct candidate candidate = {.device = options->device};
    isolate();
    bool good = set_threads(options->core_count > 0 ? options->core_count : 1, &verdict->failure) &&
                pin_cores(options->cores, options->core_count, &verdict->failure) &&
                load(job, library, &candidate, &verdict->failure) && sample(&candidate, options, verdict);
    if (good)
        verdict->failure.status = STATUS_OK;
    verdict->done = true;
    _exit(0); /* no destructors: a broken kernel may have corrupted memory */
}
