/* A candidate is an executable: the kernel, and what measures it (candidate/main.c). */
#include "candidate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "process.h"

bool candidates_prepare(struct failure *failure)
{
    (void)failure;
    return true;
}

_Noreturn void candidate_child(const struct job *job, int program, const struct options *options, int shared,
                               struct verdict *verdict)
{
    static char *const no_variables[] = {NULL};
    char where[12], repeats[24], min_ns[24], threads[12];
    char *words[] = {"candidate", where, repeats, min_ns, threads, (char *)(uintptr_t)job->text, NULL};
    isolate();
    snprintf(where, sizeof where, "%d", shared);
    snprintf(repeats, sizeof repeats, "%lld", (long long)options->repeats);
    snprintf(min_ns, sizeof min_ns, "%lld", (long long)(options->min_ms * 1e6));
    snprintf(threads, sizeof threads, "%d", options->core_count > 0 ? options->core_count : 1);
    if (pin_cores(options->cores, options->core_count, &verdict->failure) && fcntl(shared, F_SETFD, 0) == 0 &&
        fcntl(program, F_SETFD, 0) == 0) {
        fexecve(program, words, no_variables);
        fail(&verdict->failure, STATUS_MODEL, "the candidate is no program for this board: %s", strerror(errno));
    }
    verdict->done = true;
    _exit(0);
}
