#include "agent.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "decimal.h"

enum kind { TEXT, INTEGER, REAL, FLAG, INPUT, CORES, DEVICE };

static const struct option {
    const char *name;
    enum kind kind;
    unsigned commands, required; /* sets of enum command */
    size_t offset;
    double low, high;
} OPTIONS[] = {
    {"--model", TEXT, RUN | BENCH | PROFILE, RUN | BENCH | PROFILE, offsetof(struct options, model), 0, 0},
    {"--input", INPUT, RUN | BENCH | PROFILE, RUN | BENCH | PROFILE, 0, 0, 0},
    {"--output-dir", TEXT, RUN, RUN, offsetof(struct options, output_dir), 0, 0},
    {"--each", FLAG, RUN, 0, offsetof(struct options, each), 0, 0},
    {"--threads", INTEGER, RUN | BENCH | PROFILE | ROOFLINE, 0, offsetof(struct options, threads), 1, 256},
    {"--device", DEVICE, RUN | BENCH | MEASURE | PROFILE, 0, 0, 0, 0},
    {"--warmup", INTEGER, BENCH | PROFILE, 0, offsetof(struct options, warmup), 0, 1e6},
    {"--runs", INTEGER, BENCH, 0, offsetof(struct options, runs), 1, 1e6},
    {"--runs", INTEGER, PROFILE, 0, offsetof(struct options, runs), 1, 1e4},
    {"--timeout", REAL, MEASURE, 0, offsetof(struct options, timeout_s), 0.001, 86400},
    {"--repeats", INTEGER, MEASURE, 0, offsetof(struct options, repeats), 1, 1000},
    {"--min-ms", REAL, MEASURE, 0, offsetof(struct options, min_ms), 0, 60000},
    {"--cooldown-ms", REAL, MEASURE, 0, offsetof(struct options, cooldown_ms), 0, 600000},
    {"--cores", CORES, BENCH | MEASURE | PROFILE | ROOFLINE, 0, 0, 0, 0},
    {"--root", TEXT, INFO, 0, offsetof(struct options, root), 0, 0},
    {"--work-dir", TEXT, INFO | CHUNKS | RECEIVE, 0, offsetof(struct options, work_dir), 0, 0},
};
enum { OPTION_COUNT = sizeof OPTIONS / sizeof OPTIONS[0] };

static bool parse_integer(const struct option *option, const char *text, int64_t *value,
                          struct failure *failure)
{
    char *end;
    errno = 0;
    *value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || (double)*value < option->low ||
        (double)*value > option->high)
        return fail(failure, STATUS_USAGE, "%s must be a whole number from %.0f to %.0f (got '%s')",
                    option->name, option->low, option->high, text);
    return true;
}

static bool parse_real(const struct option *option, const char *text, double *value, struct failure *failure)
{
    const char *end;
    if (!decimal_parse(text, &end, value) || *end != '\0' || *value < option->low || *value > option->high)
        return fail(failure, STATUS_USAGE, "%s must be a number from %g to %g (got '%s')", option->name,
                    option->low, option->high, text);
    return true;
}

static bool parse_cores(const char *text, struct options *options, struct failure *failure)
{
    for (const char *at = text;; at++) {
        char *end;
        long core = strtol(at, &end, 10);
        if (end == at || *at < '0' || *at > '9' || core > 1023 || options->core_count == MAX_CORES ||
            (*end != ',' && *end != '\0'))
            return fail(failure, STATUS_USAGE,
                        "--cores must be core numbers from 0 to 1023, e.g. 2,3 (got '%s')", text);
        options->cores[options->core_count++] = (int)core;
        at = end;
        if (*at == '\0')
            return true;
    }
}

static bool parse_device(const char *text, enum device *device, struct failure *failure)
{
    if (strcmp(text, "cpu") != 0 && strcmp(text, "cuda") != 0)
        return fail(failure, STATUS_USAGE, "--device must be cpu or cuda (got '%s')", text);
    *device = strcmp(text, "cuda") == 0 ? DEVICE_CUDA : DEVICE_CPU;
    return true;
}

static bool store(const struct option *option, const char *text, struct options *options,
                  struct failure *failure)
{
    void *field = (char *)options + option->offset;
    switch (option->kind) {
    case TEXT: *(const char **)field = text; return true;
    case INTEGER: return parse_integer(option, text, field, failure);
    case REAL: return parse_real(option, text, field, failure);
    case FLAG: *(bool *)field = true; return true;
    case CORES: return parse_cores(text, options, failure);
    case DEVICE: return parse_device(text, &options->device, failure);
    case INPUT:
        if (options->input_count == sizeof options->inputs / sizeof options->inputs[0])
            return fail(failure, STATUS_USAGE, "--input was given more than 16 times");
        options->inputs[options->input_count++] = text;
        return true;
    }
    return true;
}

static const struct option *find(const char *word, enum command command)
{
    for (int i = 0; i < OPTION_COUNT; i++)
        if (strcmp(OPTIONS[i].name, word) == 0 && OPTIONS[i].commands & command)
            return &OPTIONS[i];
    return NULL;
}

static const char *command_name(enum command command)
{
    switch (command) {
    case INFO: return "info";
    case RUN: return "run";
    case BENCH: return "bench";
    case MEASURE: return "measure";
    case PROFILE: return "profile";
    case ROOFLINE: return "roofline";
    case CHUNKS: return "chunks";
    case RECEIVE: return "receive";
    }
    return "";
}

bool options_parse(enum command command, int count, char **words, struct options *options,
                   struct failure *failure)
{
    unsigned long given = 0;
    *options = (struct options){.threads = 1,
                                .warmup = 10,
                                .runs = 100,
                                .repeats = 3,
                                .timeout_s = 10,
                                .min_ms = 20,
                                .root = "",
                                .work_dir = "."};
    for (int i = 0; i < count; i++) {
        const struct option *option = find(words[i], command);
        if (option == NULL)
            return fail(failure, STATUS_USAGE, "%s has no option '%s'", command_name(command), words[i]);
        unsigned long bit = 1ul << (option - OPTIONS);
        if (given & bit && option->kind != INPUT)
            return fail(failure, STATUS_USAGE, "duplicate option %s", option->name);
        given |= bit;
        if (option->kind != FLAG && ++i == count)
            return fail(failure, STATUS_USAGE, "%s needs a value", option->name);
        if (!store(option, words[i], options, failure))
            return false;
    }
    for (int i = 0; i < OPTION_COUNT; i++)
        if (OPTIONS[i].required & command && !(given & 1ul << i))
            return fail(failure, STATUS_USAGE, "%s needs %s", command_name(command), OPTIONS[i].name);
    return true;
}
