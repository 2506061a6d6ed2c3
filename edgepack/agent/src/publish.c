/* The switch of a board from one release to another.
 *
 * The release is on the disk before a link points to it, and `previous` has its new target before `current`:
 * a power cut between the two renames leaves both equal, and the release before is then found in the history.
 * What does not reach the disk is taken back. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "beneath.h"
#include "store.h"

/* The links, by what they point to; "" for no link. */
struct links {
    int root;
    const char *random; /* a part of the names of links before their renames */
    const char *current, *previous;
};

/* Lets a link point to `target`, by one rename; "" removes it. */
static bool point(const struct links *links, const char *name, const char *target)
{
    char fresh[NAME_MAX + 1];
    if (*target == '\0')
        return kind_at(links->root, name, NULL) != KIND_LINK || unlinkat(links->root, name, 0) == 0;
    snprintf(fresh, sizeof fresh, ".link-%s%c", links->random, name[0]);
    if (symlinkat(target, links->root, fresh) != 0)
        return false;
    if (renameat(links->root, fresh, links->root, name) == 0)
        return true;
    int error = errno;
    unlinkat(links->root, fresh, 0);
    errno = error;
    return false;
}

static bool take_back(const struct links *before, const char *what, struct failure *failure)
{
    const char *why = strerror(errno);
    bool back = point(before, "current", before->current) && point(before, "previous", before->previous) &&
                fsync(before->root) == 0;
    return fail(failure, STATUS_OUTPUT, "%s: %s%s", what, why,
                back ? "; the links were set back" : ", and the links could not be set back");
}

/* Adds a line to the history; a line that an earlier power cut left unfinished is ended first. */
static bool append(int root, const char *line)
{
    char text[4096], last = '\n';
    int file = regular_at(root, "history", O_RDWR | O_CREAT | O_APPEND);
    if (file < 0)
        return false;
    off_t size = lseek(file, 0, SEEK_END);
    bool good = size == 0 || (size > 0 && pread(file, &last, 1, size - 1) == 1);
    int length = snprintf(text, sizeof text, last == '\n' ? "%s\n" : "\n%s\n", line);
    errno = length >= (int)sizeof text ? EMSGSIZE : errno;
    good = good && length < (int)sizeof text && write_all(file, text, (size_t)length) && fsync(file) == 0;
    int error = errno;
    if (!good && size >= 0 && ftruncate(file, size) != 0)
        error = errno;
    close(file);
    errno = error;
    return good;
}

static bool is_pointing_to(int root, const char *name, const char *target)
{
    char there[PATH_MAX] = "";
    ssize_t size = readlinkat(root, name, there, sizeof there - 1);
    there[size > 0 ? size : 0] = '\0';
    return strcmp(there, target) == 0;
}

/* Gives the staged release its name. */
static bool name_release(int root, const char *staged, const char *release, struct failure *failure)
{
    if (strcmp(staged, release) == 0)
        return true;
    int releases = folder_at(root, "releases");
    if (releases >= 0 && rename_new(releases, staged, releases, release) == 0) {
        close(releases);
        return true;
    }
    return fail(failure, STATUS_OUTPUT, "releases/%s cannot be renamed to %s: %s", staged, release,
                errno == EEXIST ? "it is there already" : strerror(errno));
}

/* Writes the release and its name to the disk. */
static bool flush_release(int root, struct failure *failure)
{
    int releases = folder_at(root, "releases");
    bool good = releases >= 0 && fsync(releases) == 0;
    if (!good)
        fail(failure, STATUS_OUTPUT, "the release could not be written to the disk: %s", strerror(errno));
    if (releases >= 0)
        close(releases);
    return good && flush(root, failure);
}

static bool move_links(const struct links *before, const struct links *after, const char *line,
                       struct failure *failure)
{
    struct failure ignored;
    if (strcmp(after->previous, before->previous) != 0 && !point(after, "previous", after->previous))
        return fail(failure, STATUS_OUTPUT, "previous could not be moved: %s", strerror(errno));
    if (!point(after, "current", after->current))
        return take_back(before, "current could not be moved", failure);
    if (!append(after->root, line))
        return take_back(before, "the history could not be written", failure);
    if (fsync(after->root) != 0 || !flush(after->root, &ignored))
        return take_back(before, "the links could not be written to the disk", failure);
    return true;
}

bool store_publish(char **words, struct failure *failure)
{
    const char *staged = words[2], *release = words[3], *old = words[4];
    char target[NAME_MAX + 16];
    int root = guard(words[0], words[1], failure);
    if (root < 0)
        return false;
    enum kind kind = kind_at(root, "current", NULL);
    if (kind != KIND_LINK && kind != KIND_NONE)
        return fail(failure, STATUS_INPUT, "current is not a link");
    if (!is_pointing_to(root, "current", old))
        return fail(failure, STATUS_INPUT, "current was changed by somebody else");
    snprintf(target, sizeof target, "releases/%s", release);
    struct links before = {root, words[7], old, words[5]}, after = {root, words[7], target, words[6]};
    return name_release(root, staged, release, failure) && flush_release(root, failure) &&
           move_links(&before, &after, words[8], failure) && store_done(failure);
}
