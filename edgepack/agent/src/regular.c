#include "regular.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_regular(int file)
{
    struct stat info;
    return fstat(file, &info) == 0 && S_ISREG(info.st_mode);
}

FILE *regular_open(const char *path, struct failure *failure)
{
    /* O_NONBLOCK returns from a FIFO or a device at once; it has no effect on a regular file. */
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (file < 0) {
        fail(failure, STATUS_INPUT, "%s cannot be opened: %s", path, strerror(errno));
        return NULL;
    }
    FILE *stream = is_regular(file) ? fdopen(file, "rb") : NULL;
    if (stream == NULL) {
        fail(failure, STATUS_INPUT, "%s is not a regular file", path);
        close(file);
    }
    return stream;
}

FILE *regular_create(const char *path, struct failure *failure)
{
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (file < 0) {
        fail(failure, STATUS_OUTPUT, "%s cannot be written: %s", path,
             errno == ELOOP ? "it is a symbolic link"
             : errno == ENXIO ? "it is a FIFO or a device"
                              : strerror(errno));
        return NULL;
    }
    FILE *stream = is_regular(file) && ftruncate(file, 0) == 0 ? fdopen(file, "wb") : NULL;
    if (stream == NULL) {
        fail(failure, STATUS_OUTPUT, "%s cannot be written: it is not a regular file", path);
        close(file);
    }
    return stream;
}
