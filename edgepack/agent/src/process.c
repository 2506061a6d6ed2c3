/* Processes: threads, cores, and a supervised child. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "process.h"

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

const char *death_text(int how, char *text, size_t size)
{
    int number = WIFSIGNALED(how) ? WTERMSIG(how) : 0;
    if (number == 0)
        snprintf(text, size, "it exited with code %d", WEXITSTATUS(how));
    else
        snprintf(text, size, "killed by signal %d (%s)%s", number, strsignal(number),
                 number == SIGKILL  ? ": the board ran out of memory"
                 : number == SIGILL ? ": it is built for a different CPU"
                                    : "");
    return text;
}

void die_with_parent(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(STATUS_INTERNAL); /* the parent died before the line above */
}

void isolate(void)
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

/* Progress of the supervised child, in memory shared with its parent. */
struct progress {
    const char *stage; /* a literal: it has the same address in both */
    bool done;
    int code;
};
static struct progress own; /* of a process without supervision */
static struct progress *progress = &own;

void enter_stage(const char *stage)
{
    progress->stage = stage;
}

static bool await(pid_t child, struct failure *failure)
{
    int how = 0;
    char text[128];
    while (waitpid(child, &how, 0) < 0 && errno == EINTR)
        continue;
    if (progress->done)
        return true;
    return fail(failure, STATUS_CRASH, "the process died while %s: %s", progress->stage,
                death_text(how, text, sizeof text));
}

bool supervise(int (*work)(void *context), void *context, int *code, struct failure *failure)
{
    pid_t parent = getpid();
    progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (progress == MAP_FAILED)
        return fail(failure, STATUS_INTERNAL, "out of memory");
    progress->stage = "starting";
    pid_t child = fork();
    if (child < 0)
        return fail(failure, STATUS_INTERNAL, "cannot create a process: %s", strerror(errno));
    if (child == 0) {
        die_with_parent(parent);
        progress->code = work(context);
        progress->done = true;
        exit(progress->code);
    }
    bool good = await(child, failure);
    *code = progress->code;
    return good;
}
