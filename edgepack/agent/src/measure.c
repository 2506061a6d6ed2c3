/* `measure`: candidates for a kernel come in on stdin as frames, one result line goes out for each. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "candidate.h"
#include "json.h"
#include "process.h"

/* Set by SIGTERM, SIGHUP and SIGINT, and when the reader of stdout has exited. */
static volatile sig_atomic_t stopped;

static void on_stop(int signal_number)
{
    stopped = signal_number;
    close(STDIN_FILENO); /* a read that is about to start must not block */
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_stop}; /* no SA_RESTART: reads and polls must end */
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* Reads a line without its newline. 1: a line; 0: the end of the stream; -1: too long or truncated. */
static int read_line(char *line, size_t *length)
{
    int c;
    *length = 0;
    while ((c = getc(stdin)) != EOF && c != '\n') {
        if (*length == MAX_LINE)
            return -1;
        line[(*length)++] = (char)c;
    }
    return c == '\n' ? 1 : *length == 0 ? 0 : -1;
}

/* Moves `size` bytes from stdin into the file `to`; -1 only drops them. */
static bool read_library(size_t size, int to, struct failure *failure)
{
    char chunk[65536];
    while (size > 0) {
        size_t wanted = size < sizeof chunk ? size : sizeof chunk;
        size_t got = fread(chunk, 1, wanted, stdin);
        if (got != wanted)
            return fail(failure, STATUS_STREAM, "the stream ended in the middle of a frame");
        for (size_t at = 0; to >= 0 && at < got;) {
            ssize_t written = write(to, chunk + at, got - at);
            if (written < 0)
                return fail(failure, STATUS_INTERNAL, "out of memory: a candidate of %zu bytes: %s", size,
                            strerror(errno));
            at += (size_t)written;
        }
        size -= got;
    }
    return true;
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Waits until `alive` hangs up, when the child has exited. False at the deadline, on a stop
 * signal, or when the reader of the results has exited. */
static bool wait_for_end(int alive, double timeout_s)
{
    double deadline = now_s() + timeout_s;
    struct pollfd watched[] = {{alive, 0, 0}, {STDOUT_FILENO, 0, 0}};
    while (!stopped) {
        double left_ms = (deadline - now_s()) * 1e3;
        if (left_ms <= 0)
            return false;
        /* Never longer than a second: a signal may come between the test of `stopped` and poll. */
        int ready = poll(watched, 2, left_ms < 1000 ? (int)left_ms + 1 : 1000);
        if (ready > 0 && watched[0].revents != 0)
            return true;
        if (ready > 0 && watched[1].revents & POLLERR)
            stopped = SIGPIPE;
    }
    return false;
}

/* Describes why a child did not complete. */
static void word_death(int how, bool in_time, double timeout_s, struct failure *failure)
{
    char text[128];
    if (in_time)
        fail(failure, STATUS_CRASH, "%s", death_text(how, text, sizeof text));
    else
        fail(failure, STATUS_CRASH, "killed after %g s: timeout", timeout_s);
}

/* Where candidates write their results. */
struct results {
    int shared;
    struct verdict *verdict;
};

static bool run_child(const struct job *job, int library, const struct options *options,
                      const struct results *results, struct failure *failure)
{
    int alive[2], how = 0;
    pid_t parent = getpid();
    if (pipe2(alive, O_CLOEXEC) != 0)
        return fail(failure, STATUS_INTERNAL, "cannot create a pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child == 0) {
        die_with_parent(parent);
        close(alive[0]);
        fcntl(alive[1], F_SETFD, 0); /* open until the child ends, whatever it executes */
        candidate_child(job, library, options, results->shared, results->verdict);
    }
    close(alive[1]);
    if (child < 0) {
        close(alive[0]);
        return fail(failure, STATUS_INTERNAL, "cannot create a process: %s", strerror(errno));
    }
    bool in_time = wait_for_end(alive[0], options->timeout_s);
    close(alive[0]);
    kill(child, SIGKILL); /* if it has exited, it is a zombie until waitpid, so its PID is not reused */
    while (waitpid(child, &how, 0) < 0 && errno == EINTR)
        continue;
    if (!results->verdict->done)
        word_death(how, in_time, options->timeout_s, &results->verdict->failure);
    return true;
}

static bool write_verdict(const struct job *job, const struct verdict *verdict, const struct options *options,
                          struct failure *failure)
{
    struct json json = {stdout, false};
    const struct failure *why = &verdict->failure;
    json_open(&json, NULL, '{');
    json_text(&json, "id", job->id);
    json_bool(&json, "ok", why->status == STATUS_OK);
    if (why->status == STATUS_OK) {
        json_open(&json, "ms", '[');
        for (int64_t i = 0; i < options->repeats; i++)
            json_real(&json, NULL, verdict->ms[i]);
        json_close(&json, ']');
        json_integer(&json, "calls", verdict->calls);
    } else {
        json_text(&json, "kind", status_name(why->status));
        json_text(&json, "error", why->text);
    }
    return json_end(&json) || fail(failure, STATUS_OUTPUT, "stdout was closed by its reader");
}

/* Reads the rest of the frame and runs it. The library is in memory only, so there is nothing to clean up. */
static bool run_job(const struct job *job, const struct options *options, const struct results *results,
                    struct failure *failure)
{
    int library = -1;
    struct verdict *verdict = results->verdict;
    *verdict = (struct verdict){.failure = job->failure};
    if (job->failure.status == STATUS_OK && (library = memfd_create("candidate", MFD_CLOEXEC)) < 0)
        fail(&verdict->failure, STATUS_INTERNAL, "cannot create a memory file: %s", strerror(errno));
    bool good = read_library(job->size, library, failure);
    if (good && library >= 0)
        good = run_child(job, library, options, results, failure);
    if (library >= 0)
        close(library);
    return good && !stopped && write_verdict(job, verdict, options, failure);
}

static void cool_down(double milliseconds)
{
    struct timespec pause = {(time_t)(milliseconds / 1e3), (long)(milliseconds * 1e6) % 1000000000};
    nanosleep(&pause, NULL); /* a stop signal interrupts it, as intended */
}

static bool serve(const struct options *options, const struct results *results, struct failure *failure)
{
    static char line[MAX_LINE];
    static struct job job;
    size_t length;
    int got;
    while (!stopped && (got = read_line(line, &length)) != 0) {
        if (got < 0)
            return fail(failure, STATUS_STREAM, "a header line is longer than %d bytes or truncated",
                        MAX_LINE);
        if (length == 3 && memcmp(line, "end", 3) == 0)
            return true;
        if (!job_parse(line, length, &job, failure) || !run_job(&job, options, results, failure))
            return false;
        cool_down(options->cooldown_ms);
    }
    return true;
}

static bool share(struct results *results, struct failure *failure)
{
    results->shared = memfd_create("verdict", MFD_CLOEXEC);
    if (results->shared < 0 || ftruncate(results->shared, sizeof *results->verdict) != 0)
        return fail(failure, STATUS_INTERNAL, "cannot create a memory file: %s", strerror(errno));
    results->verdict =
        mmap(NULL, sizeof *results->verdict, PROT_READ | PROT_WRITE, MAP_SHARED, results->shared, 0);
    return results->verdict != MAP_FAILED || fail(failure, STATUS_INTERNAL, "out of memory");
}

bool measure(const struct options *options, struct failure *failure)
{
    struct results results;
    if (!candidates_prepare(failure) || !share(&results, failure))
        return false;
    catch_signals();
    bool good = serve(options, &results, failure);
    munmap(results.verdict, sizeof *results.verdict);
    close(results.shared);
    if (stopped)
        return fail(failure, STATUS_STREAM, "stopped by signal %d (%s)", (int)stopped, strsignal(stopped));
    return good;
}
