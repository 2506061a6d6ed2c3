#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "info.h"
#include "json.h"

static const char USAGE[] = "edgepack-agent info [--work-dir DIR]\n"
                            "edgepack-agent run --model M.so --input A.npy... --output-dir DIR [--each] "
                            "[--threads N] [--device cpu|cuda]\n"
                            "edgepack-agent bench --model M.so --input A.npy... [--warmup W] [--runs R] "
                            "[--threads N] [--cores A,B] [--device cpu|cuda]\n"
                            "edgepack-agent measure [--timeout S] [--repeats N] [--min-ms X] [--cooldown-ms "
                            "C] [--cores A,B] [--device cpu|cuda] < frames\n";

/* The one error line of the protocol on stdout, and its text on stderr for people. */
static int report(const struct failure *failure)
{
    struct json json = {stdout, false};
    json_open(&json, NULL, '{');
    json_bool(&json, "ok", false);
    json_text(&json, "kind", status_name(failure->status));
    json_text(&json, "error", failure->text);
    json_end(&json);
    fprintf(stderr, "edgepack-agent: %s\n%s", failure->text, failure->status == STATUS_USAGE ? USAGE : "");
    return failure->status;
}

int main(int count, char **words)
{
    static struct failure failure;
    struct options options;
    const char *command = count > 1 ? words[1] : "";
    bool (*action)(const struct options *, struct failure *) = strcmp(command, "run") == 0       ? run
                                                               : strcmp(command, "bench") == 0   ? bench
                                                               : strcmp(command, "measure") == 0 ? measure
                                                                                                 : NULL;
    if (action == NULL && strcmp(command, "info") != 0) {
        fail(&failure, STATUS_USAGE, "'%.100s' is not one of info, run, bench, measure", command);
        return report(&failure);
    }
    if (!options_parse(command, count - 2, words + 2, &options, &failure))
        return report(&failure);
    bool good = action != NULL ? action(&options, &failure) : info(options.root, options.work_dir, &failure);
    return good ? STATUS_OK : report(&failure);
}
