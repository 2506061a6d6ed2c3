#include "beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

enum { FOLDER = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC };

enum kind kind_at(int folder, const char *name, struct stat *info)
{
    struct stat own;
    if (info == NULL)
        info = &own;
    if (fstatat(folder, name, info, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT || errno == ENOTDIR ? KIND_NONE : KIND_OTHER;
    switch (info->st_mode & S_IFMT) {
    case S_IFREG: return KIND_FILE;
    case S_IFDIR: return KIND_FOLDER;
    case S_IFLNK: return KIND_LINK;
    default: return KIND_OTHER;
    }
}

const char *kind_name(enum kind kind)
{
    switch (kind) {
    case KIND_NONE: return "none";
    case KIND_FILE: return "file";
    case KIND_FOLDER: return "folder";
    case KIND_LINK: return "link";
    case KIND_OTHER: return "other";
    }
    return "other";
}

bool is_beneath(const char *path)
{
    if (*path == '/' || *path == '\0')
        return false;
    for (;;) {
        size_t length = strcspn(path, "/");
        if (length == 2 && path[0] == '.' && path[1] == '.')
            return false;
        if (path[length] == '\0')
            return true;
        path += length + 1;
    }
}

int folder_open(const char *path)
{
    return open(path, FOLDER);
}

/* Opens the folder of the first `length` bytes of a path. */
static int descend(int base, const char *path, size_t length)
{
    char part[NAME_MAX + 1];
    int folder = openat(base, ".", FOLDER);
    for (size_t at = 0; folder >= 0 && at < length;) {
        size_t size = strcspn(path + at, "/");
        size = size < length - at ? size : length - at;
        if (size >= sizeof part) {
            close(folder);
            errno = ENAMETOOLONG;
            return -1;
        }
        memcpy(part, path + at, size);
        part[size] = '\0';
        at += size + 1;
        if (size == 0)
            continue;
        int next = openat(folder, part, FOLDER);
        int error = errno;
        close(folder);
        errno = error;
        folder = next;
    }
    return folder;
}

int folder_at(int base, const char *path)
{
    return descend(base, path, strlen(path));
}

int parent_at(int base, const char *path, const char **name)
{
    const char *slash = strrchr(path, '/');
    *name = slash == NULL ? path : slash + 1;
    return descend(base, path, slash == NULL ? 0 : (size_t)(slash - path));
}

int regular_at(int folder, const char *name, int flags)
{
    struct stat info;
    int file = openat(folder, name, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0644);
    if (file >= 0 && (fstat(file, &info) != 0 || !S_ISREG(info.st_mode))) {
        close(file);
        errno = EINVAL;
        return -1;
    }
    return file;
}
