/* `receive`: builds files from pieces of others and from bytes of the stream. docs/agent-protocol.md has the orders. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"
#include "frames.h"
#include "json.h"
#include "sha256.h"
#include "store.h"

enum { PATH_SIZE = 1024, MAX_SOURCES = 4096, COPY = 1 << 16 };

/* The file that is being built. Until it is whole and right, it has the name `part`. */
struct target {
    char path[PATH_SIZE], part[PATH_SIZE + 16];
    int file;
    int mode;
    uint64_t size, written;
    char sha256[SHA256_HEX];
    struct sha256 sha;
    char why[256]; /* it cannot be built; empty as long as it can */
};

struct receiver {
    struct frames frames;
    char *sources[MAX_SOURCES];
    size_t source_count, open_source;
    int source; /* the open one, or -1 */
    struct target target;
    bool building;
    uint8_t *buffer; /* COPY bytes */
};

/* A path below the current folder. */
static bool take_path(struct receiver *receiver, char *path, struct failure *failure)
{
    uint64_t length;
    if (!frames_number(&receiver->frames, &length, failure))
        return false;
    if (length == 0 || length >= PATH_SIZE)
        return fail(failure, STATUS_STREAM, "a path of %llu bytes", (unsigned long long)length);
    path[length] = '\0';
    return frames_take(&receiver->frames, path, length, failure);
}

static bool is_below(const char *path)
{
    for (const char *at = path; *at != '\0'; at += strcspn(at, "/"), at += *at == '/') {
        size_t length = strcspn(at, "/");
        if (length == 0 || (length == 1 && at[0] == '.') || (length == 2 && at[0] == '.' && at[1] == '.'))
            return false;
    }
    return path[0] != '\0' && path[strlen(path) - 1] != '/';
}

static void name_part(struct target *target)
{
    const char *slash = strrchr(target->path, '/');
    int folder = slash == NULL ? 0 : (int)(slash - target->path + 1);
    snprintf(target->part, sizeof target->part, "%.*s.%s.%.8s.part", folder, target->path,
             target->path + folder, target->sha256);
}

static bool cannot_write(const struct target *target, struct failure *failure)
{
    int error = errno;
    unlink(target->part);
    return fail(failure, STATUS_OUTPUT, "%s cannot be written: %s", target->path, strerror(error));
}

/* Appends bytes. False if the disk refuses them: all further ones would be refused, too. */
static bool append(struct target *target, const uint8_t *bytes, size_t size, struct failure *failure)
{
    if (size > target->size - target->written)
        return fail(failure, STATUS_STREAM, "%s gets more bytes than it has", target->path);
    sha256_add(&target->sha, bytes, size);
    target->written += size;
    while (size > 0) {
        ssize_t written = write(target->file, bytes, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return cannot_write(target, failure);
        bytes += written, size -= (size_t)written;
    }
    return true;
}

/* Keeps the first bytes of an earlier attempt. */
static void keep(struct receiver *receiver, uint64_t size)
{
    struct target *target = &receiver->target;
    while (target->written < size) {
        uint64_t left = size - target->written;
        ssize_t got = read(target->file, receiver->buffer, left < COPY ? (size_t)left : COPY);
        if (got <= 0) {
            snprintf(target->why, sizeof target->why, "what was kept of it is shorter");
            return;
        }
        sha256_add(&target->sha, receiver->buffer, (size_t)got);
        target->written += (uint64_t)got;
    }
}

static bool begin_file(struct receiver *receiver, struct failure *failure)
{
    struct target *target = &receiver->target;
    struct frames *frames = &receiver->frames;
    uint8_t mode;
    uint64_t kept;
    struct stat info;
    *target = (struct target){.file = -1};
    if (!take_path(receiver, target->path, failure) || !frames_take(frames, &mode, 1, failure) ||
        !frames_number(frames, &target->size, failure) ||
        !frames_take(frames, target->sha256, SHA256_HEX - 1, failure) || !frames_number(frames, &kept, failure))
        return false;
    if (!is_below(target->path) || mode > 1 || kept > target->size)
        return fail(failure, STATUS_STREAM, "'%s' is not a file to build", target->path);
    target->mode = mode == 1 ? 0755 : 0644;
    name_part(target);
    target->file = open(target->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (target->file < 0)
        return fail(failure, STATUS_OUTPUT, "%s cannot be written: %s", target->path, strerror(errno));
    receiver->building = true;
    if (fstat(target->file, &info) != 0 || !S_ISREG(info.st_mode))
        return fail(failure, STATUS_OUTPUT, "%s cannot be written: it is not a regular file", target->part);
    sha256_begin(&target->sha);
    keep(receiver, kept);
    if (ftruncate(target->file, (off_t)target->written) != 0)
        return cannot_write(target, failure);
    return true;
}

static bool add_source(struct receiver *receiver, struct failure *failure)
{
    char path[PATH_SIZE];
    if (!take_path(receiver, path, failure))
        return false;
    if (receiver->source_count == MAX_SOURCES)
        return fail(failure, STATUS_STREAM, "more than %d sources", MAX_SOURCES);
    char *copy = strdup(path);
    if (copy == NULL)
        return fail(failure, STATUS_INTERNAL, "out of memory");
    receiver->sources[receiver->source_count++] = copy;
    return true;
}

static int open_source(struct receiver *receiver, size_t number)
{
    if (receiver->source >= 0 && receiver->open_source == number)
        return receiver->source;
    if (receiver->source >= 0)
        close(receiver->source);
    receiver->open_source = number;
    receiver->source = open(receiver->sources[number], O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    return receiver->source;
}

static bool copy(struct receiver *receiver, struct failure *failure)
{
    struct target *target = &receiver->target;
    struct frames *frames = &receiver->frames;
    uint64_t number, offset, size;
    if (!frames_number(frames, &number, failure) || !frames_number(frames, &offset, failure) ||
        !frames_number(frames, &size, failure))
        return false;
    if (!receiver->building || number >= receiver->source_count)
        return fail(failure, STATUS_STREAM, "a copy from source %llu", (unsigned long long)number);
    int source = open_source(receiver, (size_t)number);
    while (size > 0 && target->why[0] == '\0') {
        ssize_t got = pread(source, receiver->buffer, size < COPY ? (size_t)size : COPY, (off_t)offset);
        if (got <= 0)
            snprintf(target->why, sizeof target->why, "%.200s cannot be read", receiver->sources[number]);
        else if (!append(target, receiver->buffer, (size_t)got, failure))
            return false;
        else
            offset += (uint64_t)got, size -= (uint64_t)got;
    }
    return true;
}

static bool add_bytes(struct receiver *receiver, struct failure *failure)
{
    uint64_t size;
    const uint8_t *bytes;
    if (!frames_number(&receiver->frames, &size, failure))
        return false;
    if (!receiver->building)
        return fail(failure, STATUS_STREAM, "bytes of no file");
    while (size > 0) {
        size_t most = size < FRAME_MAX ? (size_t)size : FRAME_MAX;
        size_t some = frames_some(&receiver->frames, most, &bytes, failure);
        if (some == 0)
            return false;
        if (receiver->target.why[0] == '\0' && !append(&receiver->target, bytes, some, failure))
            return false;
        size -= some;
    }
    return true;
}

static void close_target(struct receiver *receiver)
{
    if (receiver->building)
        close(receiver->target.file);
    receiver->building = false;
}

/* The file gets its name if its contents are right; otherwise it is removed, and reported. */
static bool end_file(struct receiver *receiver, struct failure *failure)
{
    struct target *target = &receiver->target;
    char digest[SHA256_HEX];
    if (!receiver->building)
        return fail(failure, STATUS_STREAM, "the end of no file");
    sha256_end(&target->sha, digest);
    if (target->why[0] == '\0' &&
        (target->written != target->size || strcmp(digest, target->sha256) != 0))
        snprintf(target->why, sizeof target->why, "its contents differ from what was sent");
    bool good = target->why[0] == '\0';
    if (good && (fchmod(target->file, (mode_t)target->mode) != 0 || fsync(target->file) != 0 ||
                 rename(target->part, target->path) != 0))
        return cannot_write(target, failure);
    if (!good)
        unlink(target->part);
    close_target(receiver);
    struct json json = {stdout, false};
    json_open(&json, NULL, '{');
    json_text(&json, "path", target->path);
    json_text(&json, "why", good ? NULL : target->why);
    return json_end(&json) || fail(failure, STATUS_OUTPUT, "the result cannot be written");
}

static bool follow_orders(struct receiver *receiver, struct failure *failure)
{
    uint8_t order;
    while (frames_take(&receiver->frames, &order, 1, failure)) {
        bool good = true;
        switch (order) {
        case 'F':
            if (receiver->building)
                return fail(failure, STATUS_STREAM, "a file begins within another one");
            good = begin_file(receiver, failure);
            break;
        case 'S': good = add_source(receiver, failure); break;
        case 'C': good = copy(receiver, failure); break;
        case 'B': good = add_bytes(receiver, failure); break;
        case 'E': good = end_file(receiver, failure); break;
        case 'Z': return true;
        default: return fail(failure, STATUS_STREAM, "unknown order %d", order);
        }
        if (!good)
            return false;
    }
    return false;
}

bool receive(const struct options *options, struct failure *failure)
{
    static struct receiver receiver;
    receiver.source = -1;
    if (chdir(options->work_dir) != 0)
        return fail(failure, STATUS_OUTPUT, "%s: %s", options->work_dir, strerror(errno));
    receiver.buffer = malloc(COPY);
    if (receiver.buffer == NULL)
        return fail(failure, STATUS_INTERNAL, "out of memory");
    bool good = frames_begin(&receiver.frames, failure) && follow_orders(&receiver, failure);
    close_target(&receiver);
    if (receiver.source >= 0)
        close(receiver.source);
    for (size_t i = 0; i < receiver.source_count; i++)
        free(receiver.sources[i]);
    frames_end(&receiver.frames);
    free(receiver.buffer);
    if (!good)
        return false;
    struct json json = {stdout, false};
    json_open(&json, NULL, '{');
    json_bool(&json, "ok", true);
    return json_end(&json) || fail(failure, STATUS_OUTPUT, "the result cannot be written");
}

/* The share of the lock is held until all has arrived. */
bool store_receive(char **words, struct failure *failure)
{
    static const struct options here = {.work_dir = "."};
    int root, folder = open_below(words, &root, failure);
    if (folder < 0)
        return false;
    if (fchdir(folder) != 0)
        return fail(failure, STATUS_OUTPUT, "%s cannot be opened: %s", words[2], strerror(errno));
    return receive(&here, failure);
}
