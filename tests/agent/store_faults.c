/* `store` alone, with faults: the environment variable FAULT decides what happens at its N-th change of the
 * disk.
 *
 *   cut N    the process is killed before it, as by a power cut
 *   disk N   its N-th fsync or syncfs fails with EIO, and all later ones do
 *   full     a file can be made, and nothing can be written to it
 *   old      the kernel has neither renameat2 nor syncfs
 *   links    the file system has no hard links
 *
 * Linked with --wrap for each of these functions. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "json.h"
#include "store.h"

static int changes, flushes;

static int fault(const char *name)
{
    const char *text = getenv("FAULT");
    size_t length = strlen(name);
    if (text == NULL || strncmp(text, name, length) != 0)
        return 0;
    return text[length] == ' ' ? atoi(text + length + 1) : -1;
}

static void change(void)
{
    if (++changes == fault("cut"))
        kill(getpid(), SIGKILL);
}

static int flushed(int result)
{
    int limit = fault("disk");
    if (limit == 0 || ++flushes < limit)
        return result;
    errno = EIO;
    return -1;
}

int __real_fsync(int file);
int __wrap_fsync(int file)
{
    change();
    return flushed(__real_fsync(file));
}

int __real_syncfs(int file);
int __wrap_syncfs(int file)
{
    change();
    if (fault("old")) {
        errno = ENOSYS;
        return -1;
    }
    return flushed(__real_syncfs(file));
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
    va_list words;
    va_start(words, number);
    int from = va_arg(words, int);
    const char *name = va_arg(words, const char *);
    int to = va_arg(words, int);
    const char *new_name = va_arg(words, const char *);
    unsigned flags = va_arg(words, unsigned);
    va_end(words);
    change();
    if (number != SYS_renameat2 || fault("old")) {
        errno = ENOSYS;
        return -1;
    }
    return __real_syscall(number, from, name, to, new_name, flags);
}

int __real_renameat(int from, const char *name, int to, const char *new_name);
int __wrap_renameat(int from, const char *name, int to, const char *new_name)
{
    change();
    return __real_renameat(from, name, to, new_name);
}

int __real_symlinkat(const char *target, int folder, const char *name);
int __wrap_symlinkat(const char *target, int folder, const char *name)
{
    change();
    return __real_symlinkat(target, folder, name);
}

int __real_linkat(int from, const char *name, int to, const char *new_name, int flags);
int __wrap_linkat(int from, const char *name, int to, const char *new_name, int flags)
{
    change();
    if (fault("links")) {
        errno = EPERM;
        return -1;
    }
    return __real_linkat(from, name, to, new_name, flags);
}

int __real_unlinkat(int folder, const char *name, int flags);
int __wrap_unlinkat(int folder, const char *name, int flags)
{
    change();
    return __real_unlinkat(folder, name, flags);
}

int __real_mkdirat(int folder, const char *name, mode_t mode);
int __wrap_mkdirat(int folder, const char *name, mode_t mode)
{
    change();
    return __real_mkdirat(folder, name, mode);
}

ssize_t __real_write(int file, const void *data, size_t size);
ssize_t __wrap_write(int file, const void *data, size_t size)
{
    if (file > STDERR_FILENO) {
        change();
        if (fault("full")) {
            errno = ENOSPC;
            return -1;
        }
    }
    return __real_write(file, data, size);
}

int main(int count, char **words)
{
    static struct failure failure;
    struct json json = {stdout, false};
    if (count > 1 && strcmp(words[1], "store") == 0 && store(count - 2, words + 2, &failure))
        return 0;
    json_open(&json, NULL, '{');
    json_bool(&json, "ok", false);
    json_text(&json, "kind", status_name(failure.status));
    json_text(&json, "error", failure.text);
    json_end(&json);
    return (int)failure.status;
}
