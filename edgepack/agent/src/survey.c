/* What is on a board: nothing is changed. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "beneath.h"
#include "json.h"
#include "listing.h"
#include "store.h"

enum { HISTORY = 1 << 18, MIN_DIGITS = 8 };

typedef bool visit_fn(int folder, const char *name, void *context, struct failure *failure);

/* Calls a function for each name in an open folder. */
static bool each_name(int folder, visit_fn *visit, void *context, struct failure *failure)
{
    struct dirent *entry;
    int own = folder_at(folder, ".");
    DIR *stream = own < 0 ? NULL : fdopendir(own);
    bool good = true;
    if (stream == NULL)
        return fail(failure, STATUS_INTERNAL, "a folder cannot be read: %s", strerror(errno));
    while (good && (entry = readdir(stream)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            good = visit(folder, entry->d_name, context, failure);
    closedir(stream);
    return good;
}

/* Whether edgepack may have given a folder this name: hexadecimal digits, perhaps with a word before them.
 * What is in other folders is not listed. */
static bool may_be_ours(const char *name)
{
    static const char *const PREFIXES[] = {".incoming-", ".gone-", ".smoke-", ".new-"};
    for (size_t i = 0; i < sizeof PREFIXES / sizeof PREFIXES[0]; i++)
        if (strncmp(name, PREFIXES[i], strlen(PREFIXES[i])) == 0) {
            name += strlen(PREFIXES[i]);
            break;
        }
    return strspn(name, "0123456789abcdef") >= MIN_DIGITS && name[strspn(name, "0123456789abcdef-.")] == '\0';
}

static void write_kind(struct json *json, const char *key, int folder, const char *name)
{
    char target[PATH_MAX];
    enum kind kind = kind_at(folder, name, NULL);
    json_open(json, NULL, '{');
    json_text(json, key, name);
    json_text(json, "kind", kind_name(kind));
    if (kind == KIND_LINK) {
        ssize_t size = readlinkat(folder, name, target, sizeof target);
        json_bytes(json, "target", target, size > 0 ? (size_t)size : 0);
    }
}

static void tell_kind(const char *key, int folder, const char *name)
{
    struct json json = {stdout, false};
    write_kind(&json, key, folder, name);
    line_end(&json);
}

/* Tells what is at `path`; returns it open if it is a folder. */
static int tell_root(const char *path)
{
    int root = folder_open(path);
    struct json json = {stdout, false};
    json_open(&json, NULL, '{');
    json_text(&json, "name", "root");
    json_text(&json, "kind", kind_name(root >= 0 ? KIND_FOLDER : kind_at(AT_FDCWD, path, NULL)));
    line_end(&json);
    return root;
}

static bool tell_temporary(int folder, const char *name, void *context, struct failure *failure)
{
    (void)context, (void)failure;
    if (strncmp(name, ".link-", 6) == 0 && kind_at(folder, name, NULL) == KIND_LINK)
        tell_kind("temporary", folder, name);
    return true;
}

/* Whether a release is the wanted one: its digest is, and it is current. */
static bool is_wanted(const char *name, const char *wanted, const char *current)
{
    size_t length = strlen(wanted);
    return length > 0 && strncmp(name, wanted, length) == 0 &&
           (name[length] == '\0' || name[length] == '.') && strncmp(current, "releases/", 9) == 0 &&
           strcmp(current + 9, name) == 0;
}

struct releases {
    const char *wanted;
    char current[PATH_MAX];
};

static bool tell_release(int folder, const char *name, void *context, struct failure *failure)
{
    const struct releases *releases = context;
    tell_kind("entry", folder, name);
    if (!may_be_ours(name) || kind_at(folder, name, NULL) != KIND_FOLDER)
        return true;
    int own = folder_at(folder, name);
    bool good = own < 0 || list_text("manifest", name, own, "manifest.json", MAX_MANIFEST + 1, failure);
    if (own >= 0)
        close(own);
    int what = is_wanted(name, releases->wanted, releases->current) ? LIST_SHA256 : 0;
    return good && list_folder(folder, name, what, failure);
}

bool store_survey(char **words, struct failure *failure)
{
    static const char *const NAMES[] = {"current", "previous", "releases", "history", ".lock"};
    struct releases releases = {.wanted = words[1]};
    int root = tell_root(words[0]);
    if (root < 0)
        return store_done(failure);
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++)
        tell_kind("name", root, NAMES[i]);
    ssize_t size = readlinkat(root, "current", releases.current, sizeof releases.current - 1);
    releases.current[size > 0 ? size : 0] = '\0';
    if (!list_text("history", "history", root, "history", -HISTORY, failure) ||
        !each_name(root, tell_temporary, NULL, failure))
        return false;
    int folder = folder_at(root, "releases");
    if (folder >= 0 && !each_name(folder, tell_release, &releases, failure))
        return false;
    return store_done(failure);
}

/* "none" without a lock file, "held" or "free". */
static const char *lock_state(int folder)
{
    struct failure ignored;
    int file = lock_file(folder, O_RDONLY, &ignored);
    if (file < 0)
        return "none";
    const char *state = flock(file, LOCK_SH | LOCK_NB) == 0 ? "free" : "held";
    close(file);
    return state;
}

struct folders {
    const char *only, *manifest;
};

static bool tell_folder(int folder, const char *name, void *context, struct failure *failure)
{
    const struct folders *folders = context;
    struct stat info;
    if (*folders->only != '\0' && strcmp(folders->only, name) != 0)
        return true;
    struct json json = {stdout, false};
    write_kind(&json, "entry", folder, name);
    int own = may_be_ours(name) && kind_at(folder, name, &info) == KIND_FOLDER ? folder_at(folder, name) : -1;
    if (own >= 0) {
        json_integer(&json, "age", (int64_t)(time(NULL) - info.st_mtime));
        json_text(&json, "lock", lock_state(own));
    }
    line_end(&json);
    if (own < 0)
        return true;
    const char *file;
    int inner = *folders->manifest == '\0' ? -1 : parent_at(own, folders->manifest, &file);
    bool good = inner < 0 || list_text("manifest", name, inner, file, MAX_MANIFEST + 1, failure);
    if (inner >= 0)
        close(inner);
    close(own);
    return good && list_folder(folder, name, 0, failure);
}

bool store_list(char **words, struct failure *failure)
{
    struct folders folders = {.only = words[1], .manifest = words[2]};
    int base = tell_root(words[0]);
    if (base >= 0 && !each_name(base, tell_folder, &folders, failure))
        return false;
    return store_done(failure);
}

bool store_use(char **words, struct failure *failure)
{
    int base = folder_open(words[0]), folder = base < 0 ? -1 : folder_at(base, words[1]);
    if (folder < 0)
        return fail(failure, STATUS_INPUT, "%s/%s cannot be opened: %s", words[0], words[1], strerror(errno));
    futimens(folder, NULL); /* on a failure, it is taken for older than it is, and sent again */
    close(folder);
    return list_folder(base, words[1], LIST_SHA256, failure) && store_done(failure);
}

static bool tell_name(int folder, const char *name, void *context, struct failure *failure)
{
    (void)context, (void)failure;
    int own = folder_at(folder, name);
    if (own < 0)
        return true;
    if (kind_at(own, "releases", NULL) == KIND_FOLDER)
        tell_kind("entry", folder, name);
    close(own);
    return true;
}

bool store_names(char **words, struct failure *failure)
{
    int work_dir = open(words[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (work_dir >= 0 && !each_name(work_dir, tell_name, NULL, failure))
        return false;
    return store_done(failure);
}
