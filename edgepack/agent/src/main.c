#include <stdio.h>
#include <string.h>

#include "agent.h"
#include "json.h"
#include "process.h"
#include "store.h"

static const char USAGE[] = "edgepack-agent info [--work-dir DIR]\n"
                            "edgepack-agent run --model M.so --input A.npy... --output-dir DIR [--each] "
                            "[--threads N] [--device cpu|cuda]\n"
                            "edgepack-agent bench --model M.so --input A.npy... [--warmup W] [--runs R] "
                            "[--threads N] [--cores A,B] [--device cpu|cuda]\n"
                            "edgepack-agent measure [--timeout S] [--repeats N] [--min-ms X] [--cooldown-ms "
                            "C] [--cores A,B] [--device cpu|cuda] < frames\n"
                            "edgepack-agent profile --model M.so --input A.npy... [--warmup W] [--runs R] "
                            "[--threads N] [--cores A,B]\n"
                            "edgepack-agent roofline [--threads N] [--cores A,B]\n"
                            "edgepack-agent chunks [--work-dir DIR] < paths\n"
                            "edgepack-agent receive [--work-dir DIR] < frames\n";

/* The error line of the protocol on stdout, and its message on stderr. */
static int report(const struct failure *failure)
{
    struct json json = {stdout, false};
    json_open(&json, NULL, '{');
    json_bool(&json, "ok", false);
    json_text(&json, "kind", status_name(failure->status));
    json_text(&json, "error", failure->text);
    json_end(&json);
    fprintf(stderr, "edgepack-agent: %s\n%s", failure->text, failure->status == STATUS_USAGE ? USAGE : "");
    return (int)failure->status;
}

static const struct {
    const char *name;
    enum command command;
    bool (*action)(const struct options *, struct failure *);
    bool supervised; /* runs a whole model in the process */
} COMMANDS[] = {
    {"info", INFO, info, false},
    {"run", RUN, run, true},
    {"bench", BENCH, bench, true},
    {"profile", PROFILE, profile, true},
    {"roofline", ROOFLINE, roofline, false},
#ifndef EDGEPACK_LINKED
    {"measure", MEASURE, measure, false},
    {"chunks", CHUNKS, chunks, false},
    {"receive", RECEIVE, receive, false},
#endif
};

/* The commands without options; people have no use for them. An agent with a model leaves them to the one
 * without, by which everything else on a board is done. */
static const struct {
    const char *name;
    bool (*action)(int count, char **words, struct failure *);
} PLAIN[] = {
#ifndef EDGEPACK_LINKED
    {"exec", exec_command},
    {"facts", facts},
    {"make-folder", make_folder},
    {"read-file", read_file},
    {"remove-folder", remove_folder},
    {"settle", settle},
    {"stop", stop},
    {"store", store},
    {"write-file", write_file},
#endif
    {NULL, NULL},
};

/* A command with its options, run as the work of a process. */
struct task {
    bool (*action)(const struct options *, struct failure *);
    struct options options;
};

static int work(void *context)
{
    static struct failure failure;
    const struct task *task = context;
    return task->action(&task->options, &failure) ? STATUS_OK : report(&failure);
}

int main(int count, char **words)
{
    static struct failure failure;
    struct task task;
    const char *name = count > 1 ? words[1] : "";
    for (size_t i = 0; PLAIN[i].name != NULL; i++)
        if (strcmp(PLAIN[i].name, name) == 0)
            return PLAIN[i].action(count - 2, words + 2, &failure) ? STATUS_OK : report(&failure);
    for (size_t i = 0; i < sizeof COMMANDS / sizeof COMMANDS[0]; i++) {
        int code;
        if (strcmp(COMMANDS[i].name, name) != 0)
            continue;
        task.action = COMMANDS[i].action;
        if (!options_parse(COMMANDS[i].command, count - 2, words + 2, &task.options, &failure))
            return report(&failure);
        if (!COMMANDS[i].supervised)
            return work(&task);
        return supervise(work, &task, &code, &failure) ? code : report(&failure);
    }
    fail(&failure, STATUS_USAGE, "'%.100s' is not one of info, run, bench, measure, profile, roofline", name);
    char names[64] = "";
    for (size_t i = 0; i < sizeof COMMANDS / sizeof COMMANDS[0]; i++)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i > 0 ? ", " : "", COMMANDS[i].name);
    fail(&failure, STATUS_USAGE, "'%.100s' is not one of %s", name, names);
    return report(&failure);
}
