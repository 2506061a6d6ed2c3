/* Files and folders of the board: `write-file` writes a file from stdin, `read-file` writes one to stdout. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"
#include "json.h"
#include "regular.h"

enum { PATH_SIZE = 4096, BUFFER = 1 << 16 };

/* A new file beside `path`, opened for writing; its name goes to `part`. -1 on failure. */
static int create_part(const char *path, char *part, size_t size)
{
    uint32_t random;
    const char *name = strrchr(path, '/');
    int folder = name == NULL ? 0 : (int)(name + 1 - path);
    if (getrandom(&random, sizeof random, 0) != sizeof random)
        return -1;
    if (snprintf(part, size, "%.*s.%s.%08x.part", folder, path, path + folder, random) >= (int)size) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
}

static bool write_all(int file, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t written = write(file, data, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return false;
        data += written;
        size -= (size_t)written;
    }
    return true;
}

/* Copies `left` bytes of stdin. A client that goes ends them early. */
static bool copy_input(int file, int64_t left, struct failure *failure)
{
    static char buffer[BUFFER];
    while (left > 0) {
        ssize_t got = read(STDIN_FILENO, buffer, left < BUFFER ? (size_t)left : BUFFER);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return fail(failure, STATUS_STREAM, "%lld bytes did not arrive", (long long)left);
        if (!write_all(file, buffer, (size_t)got))
            return fail(failure, STATUS_OUTPUT, "%s", strerror(errno));
        left -= got;
    }
    return true;
}

/* The file gets its name when it is on the disk, and the name is on the disk when this returns. */
static bool finish(int file, mode_t mode, const char *part, const char *path, struct failure *failure)
{
    if (fchmod(file, mode) != 0 || fsync(file) != 0 || rename(part, path) != 0)
        return fail(failure, STATUS_OUTPUT, "%s", strerror(errno));
    char folder[PATH_SIZE];
    const char *name = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", name == NULL ? 1 : (int)(name + 1 - path), name == NULL ? "." : path);
    int directory = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory >= 0) {
        fsync(directory);
        close(directory);
    }
    return true;
}

static bool done(struct failure *failure)
{
    struct json json = {stdout, false};
    json_open(&json, NULL, '{');
    json_bool(&json, "ok", true);
    return json_end(&json) || fail(failure, STATUS_OUTPUT, "stdout cannot be written: %s", strerror(errno));
}

bool write_file(int count, char **words, struct failure *failure)
{
    char part[PATH_SIZE], *end = "", *behind = "";
    unsigned long mode = count == 3 ? strtoul(words[1], &end, 8) : 0;
    long long size = count == 3 ? strtoll(words[2], &behind, 10) : -1;
    if (size < 0 || *end != '\0' || *behind != '\0' || mode > 0777)
        return fail(failure, STATUS_USAGE, "write-file needs a path, a mode and a size");
    /* When the client goes, the input ends, and the part is removed: being told to end must not be faster. */
    signal(SIGTERM, SIG_IGN);
    int file = create_part(words[0], part, sizeof part);
    if (file < 0)
        return fail(failure, STATUS_OUTPUT, "%s", strerror(errno));
    bool good = copy_input(file, size, failure) && finish(file, (mode_t)mode, part, words[0], failure);
    close(file);
    if (!good) {
        unlink(part);
        return false;
    }
    return done(failure);
}

bool read_file(int count, char **words, struct failure *failure)
{
    static char buffer[BUFFER];
    size_t got;
    if (count != 1)
        return fail(failure, STATUS_USAGE, "read-file needs a path");
    FILE *file = regular_open(words[0], failure);
    if (file == NULL)
        return false;
    while ((got = fread(buffer, 1, sizeof buffer, file)) > 0)
        if (!write_all(STDOUT_FILENO, buffer, got))
            break;
    bool good = got == 0 && !ferror(file);
    int why = errno;
    fclose(file);
    return good || fail(failure, STATUS_INPUT, "%s: %s", words[0], strerror(why));
}

bool make_folder(int count, char **words, struct failure *failure)
{
    if (count != 1)
        return fail(failure, STATUS_USAGE, "make-folder needs a path");
    if (mkdir(words[0], 0700) != 0)
        return fail(failure, STATUS_OUTPUT, "%s: %s", words[0], strerror(errno));
    return done(failure);
}

/* Removes a folder with the files in it; one that has folders stays. */
bool remove_folder(int count, char **words, struct failure *failure)
{
    if (count != 1)
        return fail(failure, STATUS_USAGE, "remove-folder needs a path");
    DIR *entries = opendir(words[0]);
    if (entries == NULL)
        return fail(failure, STATUS_OUTPUT, "%s: %s", words[0], strerror(errno));
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;)
        unlinkat(dirfd(entries), entry->d_name, 0); /* folders are not removed by that */
    closedir(entries);
    if (rmdir(words[0]) != 0)
        return fail(failure, STATUS_OUTPUT, "%s: %s", words[0], strerror(errno));
    return done(failure);
}
