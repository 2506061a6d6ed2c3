/* `exec`: runs a command for a client that may vanish; `stop` ends it from another connection.
 *
 * The words of the command come on stdin, so that no shell reads them: "NONCE SIZE\n", and SIZE bytes in which each word
 * ends with a NUL. The rest of stdin is the command's. Before the command's own output come "edgepack-NONCE\n" on stdout
 * and "edgepack-NONCE GROUP\n" on stderr: what came before is the login shell's. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "process.h"

enum { LINE_SIZE = 128, MAX_COMMAND = 16 << 20, LOOK_MS = 1000, STEP_US = 20000, PATIENCE_STEPS = 100 };

/* Reads exactly `size` bytes; nothing behind them is taken from the command. */
static bool read_whole(char *data, size_t size)
{
    while (size > 0) {
        ssize_t got = read(STDIN_FILENO, data, size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        data += got;
        size -= (size_t)got;
    }
    return true;
}

/* The size of the command's words in bytes, 0 if the first line of stdin is not the client's. */
static size_t read_size(const char *nonce)
{
    char line[LINE_SIZE];
    size_t length = 0, prefix = strlen(nonce);
    while (length < sizeof line - 1 && read_whole(line + length, 1) && line[length] != '\n')
        length++;
    line[length] = '\0';
    if (strncmp(line, nonce, prefix) != 0 || line[prefix] != ' ')
        return 0;
    char *end;
    unsigned long size = strtoul(line + prefix + 1, &end, 10);
    return *end == '\0' && size <= MAX_COMMAND ? size : 0;
}

/* The words of the command, with a NULL at the end. */
static char **read_words(const char *nonce, struct failure *failure)
{
    size_t size = read_size(nonce), count = 0;
    char *text = size > 0 ? malloc(size) : NULL;
    if (text == NULL || !read_whole(text, size) || text[size - 1] != '\0') {
        fail(failure, STATUS_STREAM, "the command did not arrive: the start-up file of the login shell may read the input");
        free(text);
        return NULL;
    }
    for (size_t i = 0; i < size; i++)
        count += text[i] == '\0';
    char **words = malloc((count + 1) * sizeof *words);
    if (words == NULL) {
        fail(failure, STATUS_INTERNAL, "out of memory");
        free(text);
        return NULL;
    }
    for (size_t i = 0; i < count; i++, text += strlen(text) + 1)
        words[i] = text;
    words[count] = NULL;
    return words;
}

static int exit_code(int how)
{
    return WIFSIGNALED(how) ? 128 + WTERMSIG(how) : WEXITSTATUS(how);
}

/* Ends a process group: SIGTERM, and SIGKILL after 2 s. `child`, if not 0, is its first process, and is waited for. */
static int end_group(pid_t group, pid_t child)
{
    int how = 0;
    bool waiting = child != 0;
    kill(-group, SIGTERM);
    for (int i = 0; i < PATIENCE_STEPS; i++) {
        if (waiting && waitpid(child, &how, WNOHANG) == child)
            waiting = false;
        if (!waiting && kill(-group, 0) != 0)
            return exit_code(how);
        usleep(STEP_US);
    }
    kill(-group, SIGKILL);
    if (waiting)
        waitpid(child, &how, 0);
    return exit_code(how);
}

/* Waits for the command. It is ended when nobody can read its output any more, when the SSH server's process, the
 * parent, is gone, or when a signal tells so. */
static int await_command(pid_t child, pid_t server, int signals)
{
    struct pollfd sources[] = {{signals, POLLIN, 0}, {STDOUT_FILENO, 0, 0}};
    for (;;) {
        int how;
        bool end = false;
        struct signalfd_siginfo told;
        poll(sources, 2, LOOK_MS);
        if (sources[0].revents & POLLIN && read(signals, &told, sizeof told) == sizeof told)
            end = told.ssi_signo != SIGCHLD;
        if (waitpid(child, &how, WNOHANG) == child)
            return exit_code(how);
        if (end || sources[1].revents & (POLLERR | POLLHUP) || getppid() != server)
            return end_group(child, child);
    }
}

static void become(char **words, const char *nonce, pid_t parent, const sigset_t *mask)
{
    setpgid(0, 0);
    die_with_parent(parent);
    sigprocmask(SIG_SETMASK, mask, NULL);
    dprintf(STDERR_FILENO, "edgepack-%s %d\n", nonce, (int)getpid());
    dprintf(STDOUT_FILENO, "edgepack-%s\n", nonce);
    execvp(words[0], words);
    int why = errno;
    dprintf(STDERR_FILENO, "%s: %s\n", words[0], strerror(why));
    _exit(why == ENOENT ? 127 : 126);
}

bool exec_command(int count, char **words, struct failure *failure)
{
    sigset_t ours, before;
    pid_t parent = getpid(), server = getppid();
    if (count != 1)
        return fail(failure, STATUS_USAGE, "exec needs a nonce");
    char **command = read_words(words[0], failure);
    if (command == NULL)
        return false;
    sigemptyset(&ours);
    for (size_t i = 0; i < 4; i++)
        sigaddset(&ours, (const int[]){SIGCHLD, SIGTERM, SIGHUP, SIGINT}[i]);
    sigprocmask(SIG_BLOCK, &ours, &before);
    int signals = signalfd(-1, &ours, SFD_CLOEXEC);
    pid_t child = signals < 0 ? -1 : fork();
    if (child < 0)
        return fail(failure, STATUS_INTERNAL, "cannot create a process: %s", strerror(errno));
    if (child == 0)
        become(command, words[0], parent, &before);
    setpgid(child, child); /* whoever is first */
    close(STDIN_FILENO);   /* so that the client notices when the command reads no more */
    exit(await_command(child, server, signals));
}

bool stop(int count, char **words, struct failure *failure)
{
    char *end = NULL;
    long group = count == 1 ? strtol(words[0], &end, 10) : 0;
    if (group <= 1 || *end != '\0' || group != (pid_t)group)
        return fail(failure, STATUS_USAGE, "stop needs the number of a process group");
    end_group((pid_t)group, 0);
    return true;
}
