/* A new release's folder: made, filled with what the board has already, and checked. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "beneath.h"
#include "listing.h"
#include "sha256.h"
#include "store.h"

enum { BUFFER = 1 << 16 };

static bool cannot(struct failure *failure, const char *path, const char *do_what)
{
    return fail(failure, STATUS_OUTPUT, "%s cannot be %s: %s", path, do_what, strerror(errno));
}

/* All of stdin, which must have this sha256. */
static char *read_manifest(const char *digest, size_t *size, struct failure *failure)
{
    char sum[SHA256_HEX], *data = malloc(MAX_MANIFEST + 1);
    struct sha256 hash;
    if (data == NULL) {
        fail(failure, STATUS_INTERNAL, "out of memory");
        return NULL;
    }
    *size = fread(data, 1, MAX_MANIFEST + 1, stdin);
    sha256_begin(&hash);
    sha256_add(&hash, data, *size);
    sha256_end(&hash, sum);
    if (strcmp(sum, digest) != 0) {
        fail(failure, STATUS_STREAM, "the manifest did not arrive");
        free(data);
        return NULL;
    }
    return data;
}

/* Makes the folders that `path` is in, and opens the innermost one. */
static int make_parents(int root, const char *path, const char **name, struct failure *failure)
{
    char part[4096];
    if (!is_beneath(path) || strlen(path) >= sizeof part) {
        fail(failure, STATUS_USAGE, "%s is not a path below the folder", path);
        return -1;
    }
    for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        memcpy(part, path, (size_t)(slash - path));
        part[slash - path] = '\0';
        const char *last;
        int parent = parent_at(root, part, &last);
        bool made = parent >= 0 && (mkdirat(parent, last, 0777) == 0 || errno == EEXIST);
        if (parent >= 0)
            close(parent);
        if (!made) {
            cannot(failure, part, "made");
            return -1;
        }
    }
    int parent = parent_at(root, path, name);
    if (parent < 0)
        cannot(failure, path, "made");
    return parent;
}

static bool write_manifest(int folder, const char *data, size_t size)
{
    int file = openat(folder, "manifest.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    bool good = file >= 0 && write_all(file, data, size) && fchmod(file, 0644) == 0 && fsync(file) == 0;
    int error = errno;
    if (file >= 0)
        close(file);
    if (file >= 0 && !good)
        unlinkat(folder, "manifest.json", 0);
    errno = error;
    return good;
}

bool store_open(char **words, struct failure *failure)
{
    const char *name, *path = words[2];
    size_t size;
    char *manifest = read_manifest(words[3], &size, failure);
    int root = manifest == NULL ? -1 : guard(words[0], words[1], failure);
    int parent = root < 0 ? -1 : make_parents(root, path, &name, failure);
    bool good = parent >= 0;
    if (good && mkdirat(parent, name, 0777) != 0)
        good = cannot(failure, path, "made");
    if (good) {
        int folder = folder_at(parent, name);
        good = folder >= 0 && write_manifest(folder, manifest, size);
        if (!good) {
            cannot(failure, path, "written");
            unlinkat(parent, name, AT_REMOVEDIR);
        }
    }
    free(manifest);
    return good && store_done(failure);
}

static bool copy(int from, int to)
{
    static char buffer[BUFFER];
    ssize_t count;
    while ((count = read(from, buffer, sizeof buffer)) != 0)
        if ((count < 0 && errno != EINTR) || (count > 0 && !write_all(to, buffer, (size_t)count)))
            return false;
    return true;
}

/* Copies a file with its mode, on file systems without hard links. */
static void copy_file(int from, const struct stat *info, int folder, const char *name)
{
    int to = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0)
        return;
    bool good = copy(from, to) && fchmod(to, info->st_mode & 07777) == 0;
    close(to);
    if (!good)
        unlinkat(folder, name, 0);
}

/* Makes `path` the same file as `donor`, both below `folder`; releases are never written in place. What
 * cannot be shared is sent. */
static void share(int folder, const char *path, const char *donor)
{
    const char *name, *from_name;
    struct stat info;
    int to = parent_at(folder, path, &name), from = parent_at(folder, donor, &from_name);
    int file = from < 0 ? -1 : regular_at(from, from_name, O_RDONLY);
    if (to >= 0 && file >= 0 && fstat(file, &info) == 0 && linkat(from, from_name, to, name, 0) != 0 &&
        errno != EEXIST)
        copy_file(file, &info, to, name);
    for (int i = 0; i < 3; i++)
        if ((int[]){to, from, file}[i] >= 0)
            close((int[]){to, from, file}[i]);
}

static bool make_folder(int folder, const char *path, struct failure *failure)
{
    const char *name;
    int parent = parent_at(folder, path, &name);
    if (parent < 0 || (mkdirat(parent, name, 0777) != 0 && errno != EEXIST))
        return cannot(failure, path, "made");
    close(parent);
    return true;
}

/* Carries out the orders "folder PATH" and "link PATH DONOR". */
static bool fill(int folder, struct failure *failure)
{
    for (char *line; (line = order_line()) != NULL;) {
        char *rest = line;
        const char *order = strsep(&rest, " "), *path = strsep(&rest, " ");
        if (path == NULL || !is_beneath(path))
            return fail(failure, STATUS_STREAM, "'%.100s' is not an order", line);
        if (strcmp(order, "folder") == 0 && !make_folder(folder, path, failure))
            return false;
        if (strcmp(order, "link") == 0 && rest != NULL)
            share(folder, path, rest);
    }
    return true;
}

int open_below(char **words, int *root, struct failure *failure)
{
    *root = guard(words[0], words[1], failure);
    int folder = *root < 0 ? -1 : folder_at(*root, words[2]);
    if (*root >= 0 && folder < 0)
        cannot(failure, words[2], "opened");
    return folder;
}

bool store_fill(char **words, struct failure *failure)
{
    int root, folder = open_below(words, &root, failure);
    return folder >= 0 && fill(folder, failure) && list_folder(root, words[2], LIST_SHA256, failure) &&
           store_done(failure);
}

bool store_check(char **words, struct failure *failure)
{
    int root, folder = open_below(words, &root, failure);
    return folder >= 0 && flush(folder, failure) &&
           list_folder(root, words[2], LIST_SHA256 | LIST_SYNC, failure) && store_done(failure);
}

bool store_try(char **words, struct failure *failure)
{
    int root, folder = open_below(words, &root, failure);
    if (folder < 0)
        return false;
    if (fchdir(folder) != 0 || mkdir(words[3], 0777) != 0)
        return cannot(failure, words[3], "made");
    execv(words[4], words + 4); /* the folders and the share of the lock are closed with it */
    return fail(failure, STATUS_INPUT, "%s cannot be started: %s", words[4], strerror(errno));
}
