#include "listing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sha256.h"

enum { MAX_DEPTH = 32, BUFFER = 1 << 16 };

struct walk {
    const char *in;
    int what;
    struct failure *failure;
    char path[PATH_MAX]; /* of the entry, below the folder */
};

void line_end(struct json *json)
{
    json_close(json, '}');
    fputc('\n', json->out);
}

static bool is_on_disk(int file, const struct walk *walk)
{
    if (!(walk->what & LIST_SYNC) || fsync(file) == 0 ||
        errno == EINVAL) /* EINVAL: its file system has no fsync */
        return true;
    return fail(walk->failure, STATUS_OUTPUT, "%s/%s could not be written to the disk: %s", walk->in,
                walk->path, strerror(errno));
}

static bool sha256_of(int file, char text[SHA256_HEX])
{
    static uint8_t buffer[BUFFER];
    struct sha256 hash;
    ssize_t count;
    sha256_begin(&hash);
    while ((count = read(file, buffer, sizeof buffer)) > 0 || (count < 0 && errno == EINTR))
        if (count > 0)
            sha256_add(&hash, buffer, (size_t)count);
    sha256_end(&hash, text);
    return count == 0;
}

static void write_entry(const struct walk *walk, enum kind kind, const struct stat *info, const char *sum)
{
    struct json json = {stdout, false};
    json_open(&json, NULL, '{');
    json_text(&json, "in", walk->in);
    json_text(&json, "path", walk->path);
    json_text(&json, "kind", kind_name(kind));
    if (kind == KIND_FILE)
        json_integer(&json, "mode", info->st_mode & 07777);
    if (sum != NULL)
        json_text(&json, "sha256", sum);
    line_end(&json);
}

static bool list_file(const struct walk *walk, int folder, const char *name, struct stat *info)
{
    char sum[SHA256_HEX];
    if (walk->what == 0) {
        write_entry(walk, KIND_FILE, info, NULL);
        return true;
    }
    int file = regular_at(folder, name, O_RDONLY);
    bool readable = file >= 0 && fstat(file, info) == 0; /* another may be in its place by now */
    bool good = !readable || is_on_disk(file, walk);
    bool known = readable && good && walk->what & LIST_SHA256 && sha256_of(file, sum);
    if (file >= 0)
        close(file);
    if (good)
        write_entry(walk, KIND_FILE, info, known ? sum : NULL);
    return good;
}

static bool list_entries(struct walk *walk, int folder, size_t length, int depth);

static bool list_entry(struct walk *walk, int folder, const char *name, size_t length, int depth)
{
    struct stat info;
    enum kind kind = kind_at(folder, name, &info);
    if (kind == KIND_FILE)
        return list_file(walk, folder, name, &info);
    int inner = kind == KIND_FOLDER && depth < MAX_DEPTH ? folder_at(folder, name) : -1;
    if (inner < 0) {
        if (kind != KIND_NONE) /* it was removed meanwhile */
            write_entry(walk, kind == KIND_FOLDER ? KIND_OTHER : kind, &info, NULL);
        return true;
    }
    write_entry(walk, KIND_FOLDER, &info, NULL);
    return list_entries(walk, inner, length, depth + 1);
}

/* Lists what is in an open folder, whose own path is the first `length` bytes, and closes it. */
static bool list_entries(struct walk *walk, int folder, size_t length, int depth)
{
    struct dirent *entry;
    DIR *stream = fdopendir(folder);
    bool good = true;
    if (stream == NULL) {
        close(folder);
        return fail(walk->failure, STATUS_INTERNAL, "out of memory");
    }
    while (good && (entry = readdir(stream)) != NULL) {
        size_t size = strlen(entry->d_name), start = length == 0 ? 0 : length + 1;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (start + size >= sizeof walk->path) { /* the folder cannot be listed after all */
            walk->path[length] = '\0';
            write_entry(walk, KIND_OTHER, NULL, NULL);
            break;
        }
        if (length > 0)
            walk->path[length] = '/';
        memcpy(walk->path + start, entry->d_name, size + 1);
        good = list_entry(walk, folder, entry->d_name, start + size, depth);
    }
    walk->path[length] = '\0';
    good = good && is_on_disk(folder, walk);
    closedir(stream);
    return good;
}

bool list_folder(int parent, const char *name, int what, struct failure *failure)
{
    struct walk *walk = malloc(sizeof *walk);
    if (walk == NULL)
        return fail(failure, STATUS_INTERNAL, "out of memory");
    *walk = (struct walk){.in = name, .what = what, .failure = failure};
    int folder = folder_at(parent, name);
    write_entry(walk, folder < 0 ? KIND_OTHER : KIND_FOLDER, NULL, NULL);
    bool good = folder < 0 || list_entries(walk, folder, 0, 0);
    free(walk);
    return good;
}

bool list_text(const char *key, const char *name, int folder, const char *file, long limit,
               struct failure *failure)
{
    size_t size = (size_t)labs(limit), count = 0;
    int input = regular_at(folder, file, O_RDONLY);
    char *text = input < 0 ? NULL : malloc(size);
    ssize_t got = 1;
    if (input < 0)
        return true;
    if (text == NULL) {
        close(input);
        return fail(failure, STATUS_INTERNAL, "out of memory");
    }
    if (limit < 0)
        lseek(input, limit, SEEK_END); /* a shorter file is read from its start */
    while (got > 0 && count < size)
        if ((got = read(input, text + count, size - count)) > 0)
            count += (size_t)got;
    close(input);
    struct json json = {stdout, false};
    json_open(&json, NULL, '{');
    json_text(&json, key, name);
    json_bytes(&json, "text", text, count);
    line_end(&json);
    free(text);
    return true;
}
