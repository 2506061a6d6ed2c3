/* What the agent does to its own process: threads, cores, deadly signals. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

bool set_threads(int64_t threads, struct failure *failure)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)threads);
    if (setenv("TVM_NUM_THREADS", text, 1) != 0)
        return fail(failure, STATUS_INTERNAL, "out of memory");
    return true;
}

bool pin_cores(const int *cores, int count, struct failure *failure)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int i = 0; i < count; i++)
        CPU_SET((size_t)cores[i], &set);
    if (count > 0 && sched_setaffinity(0, sizeof set, &set) != 0)
        return fail(failure, STATUS_USAGE, "cannot pin to core %d%s: %s", cores[0],
                    count > 1 ? " and others" : "", strerror(errno));
    if (count > 0 && setenv("TVM_BIND_THREADS", "0", 1) != 0)
        return fail(failure, STATUS_INTERNAL, "out of memory");
    return true;
}

static const char *volatile stage = "starting";

void crash_stage(const char *now)
{
    stage = now;
}

/* Only async-signal-safe calls from here on. */
static void say(int to, const char *text)
{
    ssize_t written = write(to, text, strlen(text));
    (void)written; /* there is nobody left to tell */
}

static const char *crash_text(int signal_number)
{
    switch (signal_number) {
    case SIGILL: return "SIGILL, an instruction this CPU does not have: the model is built for another CPU";
    case SIGBUS: return "SIGBUS: the model file is damaged or the disk failed";
    case SIGFPE: return "SIGFPE";
    case SIGABRT: return "SIGABRT";
    default: return "SIGSEGV: the model file is damaged or not built for this runtime";
    }
}

static void on_crash(int signal_number)
{
    for (int to = STDOUT_FILENO; to <= STDERR_FILENO; to++) {
        say(to, to == STDOUT_FILENO ? "{\"ok\":false,\"kind\":\"crash\",\"error\":\"" : "edgepack-agent: ");
        say(to, "killed while ");
        say(to, stage);
        say(to, " by ");
        say(to, crash_text(signal_number));
        say(to, to == STDOUT_FILENO ? "\"}\n" : "\n");
    }
    _exit(STATUS_CRASH);
}

void crash_report(void)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(EDGEPACK_SANITIZED) /* sanitizers report crashes themselves \
                                                                    */
    static char stack[65536]; /* a crash may be an overflow of the ordinary stack */
    static const int SIGNALS[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_handler = on_crash, .sa_flags = (int)(SA_ONSTACK | SA_RESETHAND)};
    sigaltstack(&alternate, NULL);
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof SIGNALS / sizeof SIGNALS[0]; i++)
        sigaction(SIGNALS[i], &action, NULL);
#endif
}
