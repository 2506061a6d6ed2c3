/* `run` and `bench`: a model on inputs from .npy files. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent.h"
#include "board.h"
#include "clock.h"
#include "feed.h"
#include "process.h"

static bool run_samples(struct model *model, struct inputs *inputs, struct outputs *outputs,
                        const struct options *options, struct failure *failure)
{
    if (mkdir(options->output_dir, 0777) != 0 && errno != EEXIST)
        return fail(failure, STATUS_OUTPUT, "%s cannot be created: %s", options->output_dir, strerror(errno));
    if (inputs->samples == 0)
        return fail(failure, STATUS_INPUT, "the inputs contain no samples");
    enter_stage("running the model");
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
        outputs_write(&json, &outputs);
        good = finish(&json, failure);
    }
    model_free(&model);
    inputs_close(&inputs);
    return good;
}

/* Runs the model `count` times and stores the duration of each, if `samples` is given. */
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

static bool write_start(const struct options *options, double load_ms, double first_ms,
                        struct failure *failure)
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
    return fflush(stdout) == 0 ||
           fail(failure, STATUS_OUTPUT, "stdout cannot be written: %s", strerror(errno));
}

static bool write_end(const struct outputs *outputs, struct failure *failure)
{
    struct json json = {stdout, false};
    json_open(&json, NULL, '{');
    json_integer(&json, "peak_rss_kib", board_kib("", "/proc/self/status", "VmHWM"));
    outputs_write(&json, outputs);
    board_state(&json, "after", "");
    return finish(&json, failure);
}

/* The timed part. Nothing is printed between the first and the last run. */
static bool bench_model(struct model *model, struct inputs *inputs, const struct options *options,
                        int64_t started, int64_t *samples, struct failure *failure)
{
    static struct outputs outputs;
    int64_t loaded = now_ns(), first;
    enter_stage("running the model");
    if (!inputs_next(inputs, model, failure) || !time_runs(model, 1, &first, failure) ||
        !write_start(options, (double)(loaded - started) / 1e6, (double)first / 1e6, failure) ||
        !time_runs(model, options->warmup, NULL, failure) ||
        !time_runs(model, options->runs, samples, failure))
        return false;
    bool good = true;
    for (outputs.count = 0; good && outputs.count < model->output_count; outputs.count++)
        good = outputs_fetch(&outputs, outputs.count, model, true, failure);
    good = good && write_samples(samples, options->runs, failure) && write_end(&outputs, failure);
    return outputs_close(&outputs, good, failure);
}

bool bench(const struct options *options, struct failure *failure)
{
    struct inputs inputs;
    struct model model = {0};
    int64_t *samples = calloc((size_t)options->runs, sizeof *samples);
    if (samples == NULL)
        return fail(failure, STATUS_INTERNAL, "out of memory: %lld runs", (long long)options->runs);
    bool good = inputs_open(&inputs, options, failure);
    int64_t started = now_ns();
    good = good && prepare(&model, &inputs, options, failure) &&
           bench_model(&model, &inputs, options, started, samples, failure);
    model_free(&model);
    inputs_close(&inputs);
    free(samples);
    return good;
}
