/* The lock of a folder on the board: flock(2) on its .lock, held by a process that ends with its client.
 *
 * A change checks the lock first, and could then go on after the lock has passed to another machine. So it
 * also holds a shared flock on the folder itself, and a new owner waits until nobody has that. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "beneath.h"
#include "json.h"
#include "store.h"

enum { MAX_OWNER = 400, TRIES = 4, CHANGE_ENDS_MS = 10000, POLL_MS = 50 };

int lock_file(int folder, int flags, struct failure *failure)
{
    int file = regular_at(folder, ".lock", flags);
    if (file >= 0 || errno == ENOENT)
        return file;
    if (errno == ELOOP || errno == EINVAL || errno == EISDIR || errno == ENXIO)
        fail(failure, STATUS_INPUT, "its .lock is not a regular file");
    else
        fail(failure, STATUS_OUTPUT, "its .lock cannot be opened: %s", strerror(errno));
    return -1;
}

/* Makes a folder and those that it is in. */
static bool make_folders(const char *path)
{
    char *part = strdup(path);
    bool good = part != NULL;
    for (char *at = part; good && *at != '\0';) {
        char *slash = at + 1 + strcspn(at + 1, "/"), end = *slash;
        *slash = '\0';
        good = mkdir(part, 0777) == 0 || errno == EEXIST || end != '\0'; /* the last one tells of failures */
        *slash = end;
        at = slash;
    }
    free(part);
    return good;
}

static void nap(void)
{
    struct timespec time = {0, POLL_MS * 1000000L};
    nanosleep(&time, NULL);
}

/* Whether an open lock file is still the one in its folder: whoever had it before may have removed it. */
static bool is_there(int file, int folder)
{
    struct stat opened, there;
    return kind_at(folder, ".lock", &there) == KIND_FILE && fstat(file, &opened) == 0 &&
           opened.st_ino == there.st_ino && opened.st_dev == there.st_dev;
}

/* Takes the lock; `busy` if another process has it. Returns the open lock file, -1 on failure. */
static int take(int folder, bool *busy, struct failure *failure)
{
    for (int i = 0; i < TRIES; i++) {
        int file = lock_file(folder, O_RDWR | O_CREAT, failure);
        if (file < 0)
            return -1;
        *busy = flock(file, LOCK_EX | LOCK_NB) != 0;
        if (*busy && errno != EWOULDBLOCK) {
            fail(failure, STATUS_INTERNAL, "its .lock cannot be locked: %s", strerror(errno));
            close(file);
            return -1;
        }
        if (*busy ? i == TRIES - 1 : is_there(file, folder))
            return file;
        close(file);
        nap(); /* `store list` has it for a moment, to know whether anybody has */
    }
    fail(failure, STATUS_INTERNAL, "its .lock was removed again and again");
    return -1;
}

static void read_owner(int file, char owner[MAX_OWNER + 1])
{
    ssize_t size = pread(file, owner, MAX_OWNER, 0);
    owner[size > 0 ? size : 0] = '\0';
    owner[strcspn(owner, "\n")] = '\0';
}

/* Writes who holds the lock, unless the file has somebody else's text. On a full disk, it stays without. */
static void write_owner(int file, const char *owner)
{
    static const char END[] = " UTC";
    char text[MAX_OWNER + 1];
    read_owner(file, text);
    size_t length = strlen(text);
    const char *at = strchr(text, '@');
    bool ours = at != NULL && strstr(at, " since ") != NULL && length > strlen(END) &&
                strcmp(text + length - strlen(END), END) == 0;
    struct stat info;
    if (fstat(file, &info) != 0 || (info.st_size > 0 && !ours) || ftruncate(file, 0) != 0)
        return;
    snprintf(text, sizeof text, "%.*s\n", MAX_OWNER - 1, owner);
    write_all(file, text, strlen(text));
}

/* Waits for a change that a lost machine began. */
static bool changes_ended(int folder)
{
    for (int waited = 0; waited < CHANGE_ENDS_MS; waited += POLL_MS) {
        if (flock(folder, LOCK_EX | LOCK_NB) == 0) {
            flock(folder, LOCK_UN);
            return true;
        }
        if (errno != EWOULDBLOCK)
            return true; /* this file system locks no folders */
        nap();
    }
    return false;
}

static bool answer(bool held, const char *owner, struct failure *failure)
{
    struct json json = {stdout, false};
    json_open(&json, NULL, '{');
    json_bool(&json, "ok", true);
    json_bool(&json, "held", held);
    if (held)
        json_integer(&json, "process", getpid());
    else
        json_text(&json, "owner", owner);
    return json_end(&json) || fail(failure, STATUS_OUTPUT, "stdout cannot be written: %s", strerror(errno));
}

/* Holds the lock until stdin ends; every byte is a sign of life. */
static bool hold(int silence_s, struct failure *failure)
{
    char byte[64];
    for (;;) {
        struct pollfd input = {STDIN_FILENO, POLLIN, 0};
        int ready = poll(&input, 1, silence_s * 1000);
        if (ready == 0)
            return fail(failure, STATUS_LOCK, "the lock is given up: nothing was heard for %d s", silence_s);
        ssize_t count = ready < 0 ? -1 : read(STDIN_FILENO, byte, sizeof byte);
        if (count == 0)
            return true;
        if (count < 0 && errno != EINTR && errno != EAGAIN)
            return fail(failure, STATUS_STREAM, "stdin cannot be read: %s", strerror(errno));
    }
}

bool store_lock(char **words, struct failure *failure)
{
    const char *root = words[0];
    char owner[MAX_OWNER + 1];
    bool busy = false;
    int silence_s = atoi(words[2]);
    if (silence_s < 1 || silence_s > 86400)
        return fail(failure, STATUS_USAGE, "the silence must be from 1 to 86400 s (got '%s')", words[2]);
    if (!make_folders(root))
        return fail(failure, STATUS_OUTPUT, "%s cannot be made: %s", root, strerror(errno));
    int folder = folder_open(root);
    if (folder < 0)
        return fail(failure, STATUS_OUTPUT, "%s cannot be opened: %s", root, strerror(errno));
    int file = take(folder, &busy, failure);
    if (file < 0)
        return false;
    if (busy) {
        read_owner(file, owner);
        return answer(false, owner, failure);
    }
    if (!changes_ended(folder))
        return answer(false, "a change that a lost machine began", failure);
    write_owner(file, words[1]);
    return answer(true, NULL, failure) && hold(silence_s, failure);
}

/* Whether some process has the lock of a folder. */
static bool is_locked(int folder, struct failure *failure)
{
    int file = lock_file(folder, O_RDONLY, failure);
    bool locked = file >= 0 && flock(file, LOCK_SH | LOCK_NB) != 0;
    if (file >= 0)
        close(file);
    return locked;
}

int guard(const char *root, const char *holder, struct failure *failure)
{
    pid_t process = (pid_t)atol(holder);
    int folder = folder_open(root);
    if (folder < 0) {
        fail(failure, STATUS_OUTPUT, "%s cannot be opened: %s", root, strerror(errno));
        return -1;
    }
    while (flock(folder, LOCK_SH) != 0 && errno == EINTR)
        continue;
    bool alive = process > 0 && (kill(process, 0) == 0 || errno == EPERM);
    if (alive && is_locked(folder, failure))
        return folder;
    fail(failure, STATUS_LOCK, "the lock was lost");
    close(folder);
    return -1;
}
