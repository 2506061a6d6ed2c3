/* Removal of exactly what is named.
 *
 * Each order names one file, link or folder. What is of another kind by now, is reached through a link, or is
 * a folder with something in it, stays. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "beneath.h"
#include "json.h"
#include "listing.h"
#include "store.h"

/* Removes what is at a path if it is of this kind. False if it could not be removed. */
static bool remove_one(int base, const char *path, enum kind kind)
{
    const char *name;
    int parent = parent_at(base, path, &name);
    if (parent < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP;
    bool is = kind_at(parent, name, NULL) == kind;
    bool done = !is || unlinkat(parent, name, kind == KIND_FOLDER ? AT_REMOVEDIR : 0) == 0 ||
                errno == ENOENT || errno == ENOTEMPTY || errno == EEXIST;
    int error = errno;
    close(parent);
    errno = error;
    return done;
}

/* Whether current or previous point to this release. */
static bool is_in_use(int base, const char *path)
{
    static const char *const LINKS[] = {"current", "previous"};
    char target[PATH_MAX];
    for (int i = 0; i < 2; i++) {
        ssize_t size = readlinkat(base, LINKS[i], target, sizeof target - 1);
        target[size > 0 ? size : 0] = '\0';
        if (strcmp(target, path) == 0)
            return true;
    }
    return false;
}

/* Gives a folder that is not in use a name that is free, so that it is never there in part. */
static bool move(int base, const char *path, const char *fresh)
{
    const char *from_name, *to_name;
    if (is_in_use(base, path))
        return true;
    int from = parent_at(base, path, &from_name), to = parent_at(base, fresh, &to_name);
    return from >= 0 && to >= 0 && rename_new(from, from_name, to, to_name) == 0;
}

/* Takes the lock of a folder that nobody holds, until this process ends. */
static bool claim(int base, const char *path)
{
    struct failure ignored;
    int folder = folder_at(base, path);
    int file = folder < 0 ? -1 : lock_file(folder, O_RDWR, &ignored);
    if (folder >= 0)
        close(folder);
    return file >= 0 && flock(file, LOCK_EX | LOCK_NB) == 0;
}

/* What failed is told, and the other orders are carried out. */
static void tell(const char *path)
{
    struct json json = {stdout, false};
    json_open(&json, NULL, '{');
    json_text(&json, "path", path);
    json_text(&json, "error", strerror(errno));
    line_end(&json);
}

bool store_remove(char **words, struct failure *failure)
{
    int base = folder_open(words[2]);
    bool skip = false; /* somebody has the lock of the folder that the orders are about */
    if (*words[0] != '\0' && guard(words[0], words[1], failure) < 0)
        return false;
    if (base < 0)
        return fail(failure, STATUS_OUTPUT, "%s cannot be opened: %s", words[2], strerror(errno));
    for (char *line; (line = order_line()) != NULL;) {
        char *rest = line;
        const char *order = strsep(&rest, " "), *path = strsep(&rest, " ");
        bool good = true;
        if (path == NULL || !is_beneath(path) || (rest != NULL && !is_beneath(rest)))
            return fail(failure, STATUS_STREAM, "'%.100s' is not an order", line);
        if (strcmp(order, "claim") == 0)
            skip = !claim(base, path);
        else if (skip)
            continue;
        else if (strcmp(order, "file") == 0)
            good = remove_one(base, path, KIND_FILE);
        else if (strcmp(order, "link") == 0)
            good = remove_one(base, path, KIND_LINK);
        else if (strcmp(order, "folder") == 0)
            good = remove_one(base, path, KIND_FOLDER);
        else if (strcmp(order, "move") == 0 && rest != NULL)
            good = move(base, path, rest);
        else
            return fail(failure, STATUS_STREAM, "'%.100s' is not an order", line);
        if (!good)
            tell(path);
    }
    return store_done(failure);
}
