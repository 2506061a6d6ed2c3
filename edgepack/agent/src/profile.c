/* `profile`: the time of each kernel of a model with its own runtime, in runs that take turns with plain ones. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "board.h"
#include "clock.h"
#include "feed.h"
#include "process.h"

/* Times in nanoseconds. */
struct times {
    int64_t runs;
    int calls;
    uint64_t *of_calls;         /* [runs][calls], of the profiled runs */
    int64_t *plain, *profiled;  /* [runs], whole inferences */
    uint64_t *column, *ordered; /* [runs], for computations */
};

static bool times_new(struct times *times, int64_t runs, int calls, struct failure *failure)
{
    *times = (struct times){.runs = runs, .calls = calls};
    times->of_calls = calloc((size_t)runs * (size_t)calls + 1, sizeof *times->of_calls);
    times->plain = calloc((size_t)runs, sizeof *times->plain);
    times->profiled = calloc((size_t)runs, sizeof *times->profiled);
    times->column = calloc((size_t)runs, sizeof *times->column);
    times->ordered = calloc((size_t)runs, sizeof *times->ordered);
    return (times->of_calls != NULL && times->plain != NULL && times->profiled != NULL && times->column != NULL &&
            times->ordered != NULL) ||
           fail(failure, STATUS_INTERNAL, "out of memory: %lld runs of %d kernels", (long long)runs, calls);
}

static void times_free(struct times *times)
{
    free(times->of_calls);
    free(times->plain);
    free(times->profiled);
    free(times->column);
    free(times->ordered);
}

static bool time_run(struct model *model, struct times *times, int64_t run, bool profiled, struct failure *failure)
{
    const int64_t began = now_ns();
    if (!(profiled ? net_profile(&model->net, times->of_calls + run * times->calls, failure)
                   : net_run(&model->net, failure)))
        return false;
    (profiled ? times->profiled : times->plain)[run] = now_ns() - began;
    return true;
}

/* Nothing is printed between the first and the last run. Which of the two is first alternates. */
static bool take_times(struct model *model, struct times *times, int64_t warmup, struct failure *failure)
{
    for (int64_t i = 0; i < warmup; i++)
        if (!time_run(model, times, 0, i % 2 == 1, failure))
            return false;
    for (int64_t run = 0; run < times->runs; run++)
        for (int turn = 0; turn < 2; turn++)
            if (!time_run(model, times, run, (run + turn) % 2 == 1, failure))
                return false;
    return true;
}

/* Shell's sort, by gaps that shrink to 4/9 each time (Tokuda 1992). The C library's sorting is a tenth of the agent. */
static void sort(uint64_t *numbers, int64_t count)
{
    for (int64_t gap = count; gap > 1;) {
        gap = gap > 3 ? gap * 4 / 9 : 1;
        for (int64_t i = gap; i < count; i++) {
            const uint64_t number = numbers[i];
            int64_t to = i;
            for (; to >= gap && numbers[to - gap] > number; to -= gap)
                numbers[to] = numbers[to - gap];
            numbers[to] = number;
        }
    }
}

/* The profiled run with the median duration. */
static int64_t usual_run(const struct times *times)
{
    for (int64_t run = 0; run < times->runs; run++)
        times->ordered[run] = (uint64_t)times->profiled[run];
    sort(times->ordered, times->runs);
    for (int64_t run = 0; run < times->runs; run++)
        if ((uint64_t)times->profiled[run] == times->ordered[(times->runs - 1) / 2])
            return run;
    return 0;
}

static bool write_start(const struct options *options, const struct model *model, struct failure *failure)
{
    struct json json = {stdout, false};
    json_open(&json, NULL, '{');
    json_bool(&json, "ok", true);
    json_integer(&json, "protocol", PROTOCOL_VERSION);
    json_integer(&json, "warmup", options->warmup);
    json_integer(&json, "runs", options->runs);
    json_integer(&json, "threads", options->threads);
    json_open(&json, "kernels", '[');
    for (int call = 0; call < net_kernels(&model->net); call++)
        json_text(&json, NULL, net_kernel(&model->net, call));
    json_close(&json, ']');
    board_state(&json, "before", "");
    return finish(&json, failure);
}

static bool write_call(const struct times *times, int call, int64_t usual, struct failure *failure)
{
    struct json json = {stdout, false};
    for (int64_t run = 0; run < times->runs; run++)
        times->column[run] = times->of_calls[run * times->calls + call];
    memcpy(times->ordered, times->column, (size_t)times->runs * sizeof *times->ordered);
    sort(times->ordered, times->runs);
    json_open(&json, NULL, '{');
    json_integer(&json, "min_ns", (int64_t)times->ordered[0]);
    json_integer(&json, "median_ns", (int64_t)times->ordered[(times->runs - 1) / 2]);
    json_integer(&json, "p90_ns", (int64_t)times->ordered[(times->runs - 1) * 9 / 10]);
    json_integer(&json, "usual_ns", (int64_t)times->column[usual]);
    return json_end(&json) || fail(failure, STATUS_OUTPUT, "stdout cannot be written: %s", strerror(errno));
}

static void write_runs(struct json *json, const char *key, const int64_t *runs, int64_t count)
{
    json_open(json, key, '[');
    for (int64_t run = 0; run < count; run++)
        json_integer(json, NULL, runs[run]);
    json_close(json, ']');
}

static bool write_times(const struct times *times, struct failure *failure)
{
    struct json json = {stdout, false};
    const int64_t usual = usual_run(times);
    for (int call = 0; call < times->calls; call++)
        if (!write_call(times, call, usual, failure))
            return false;
    json_open(&json, NULL, '{');
    write_runs(&json, "plain_ns", times->plain, times->runs);
    write_runs(&json, "profiled_ns", times->profiled, times->runs);
    board_state(&json, "after", "");
    return finish(&json, failure);
}

static bool profile_model(struct model *model, struct inputs *inputs, const struct options *options,
                          struct failure *failure)
{
    struct times times = {0};
    if (model->net.of == NULL)
        return fail(failure, STATUS_MODEL,
                    "TVM's virtual machine executes the model: only models with a runtime of their own can be profiled");
    enter_stage("running the model");
    bool good = times_new(&times, options->runs, net_kernels(&model->net), failure) &&
                inputs_next(inputs, model, failure) && write_start(options, model, failure) &&
                take_times(model, &times, options->warmup, failure) && write_times(&times, failure);
    times_free(&times);
    return good;
}

bool profile(const struct options *options, struct failure *failure)
{
    struct inputs inputs;
    struct model model = {0};
    bool good = inputs_open(&inputs, options, failure) && prepare(&model, &inputs, options, failure) &&
                profile_model(&model, &inputs, options, failure);
    model_free(&model);
    inputs_close(&inputs);
    return good;
}
