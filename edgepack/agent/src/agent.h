/* edgepack-agent: the program that edgepack runs on a board. Its protocol is in docs/agent-protocol.md. */
#ifndef EDGEPACK_AGENT_H
#define EDGEPACK_AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "device.h"
#include "fail.h"

/* Incremented when the meaning of an output line or an input frame changes. */
enum { PROTOCOL_VERSION = 1 };

enum { MAX_CORES = 64 };

/* The options of all commands; each command uses some of them. */
struct options {
    const char *model, *output_dir, *root, *work_dir;
    const char *inputs[16];
    int input_count;
    enum device device;
    bool each;
    int64_t threads, warmup, runs, repeats;
    double timeout_s, min_ms, cooldown_ms;
    int cores[MAX_CORES];
    int core_count;
};

/* Bits, so that an option can have a set of commands. */
enum command { INFO = 1, RUN = 2, BENCH = 4, MEASURE = 8, CHUNKS = 16, RECEIVE = 32, PROFILE = 64, ROOFLINE = 128 };

/* Parses the arguments after the command's name. */
bool options_parse(enum command command, int count, char **words, struct options *options,
                   struct failure *failure);

/* The commands; each writes its results to stdout. */
bool info(const struct options *options, struct failure *failure);
bool run(const struct options *options, struct failure *failure);
bool bench(const struct options *options, struct failure *failure);
bool measure(const struct options *options, struct failure *failure);
bool profile(const struct options *options, struct failure *failure);
bool roofline(const struct options *options, struct failure *failure);
bool chunks(const struct options *options, struct failure *failure);
bool receive(const struct options *options, struct failure *failure);

/* Commands that start programs and keep files on the board; they take words instead of options. */
bool exec_command(int count, char **words, struct failure *failure);
bool facts(int count, char **words, struct failure *failure);
bool write_file(int count, char **words, struct failure *failure);
bool make_folder(int count, char **words, struct failure *failure);
bool read_file(int count, char **words, struct failure *failure);
bool remove_folder(int count, char **words, struct failure *failure);
bool settle(int count, char **words, struct failure *failure);
bool stop(int count, char **words, struct failure *failure);

#endif
