/* `settle`: puts this program itself in its place on the board, or checks the one that is there. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "json.h"
#include "sha256.h"

enum { PART_S = 3600, UNUSED_S = 86400 };

static const char NAME[] = "edgepack-agent", PART[] = ".edgepack-agent.";

static bool hash_file(const char *path, char hex[SHA256_HEX], struct failure *failure)
{
    static char buffer[65536];
    struct sha256 sum;
    ssize_t size;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file < 0)
        return fail(failure, STATUS_INPUT, "%s cannot be read: %s", path, strerror(errno));
    sha256_begin(&sum);
    while ((size = read(file, buffer, sizeof buffer)) > 0)
        sha256_add(&sum, buffer, (size_t)size);
    if (size == 0 && fsync(file) != 0 && errno != EROFS && errno != EINVAL)
        size = -1;
    if (size < 0)
        fail(failure, STATUS_INPUT, "%s: %s", path, strerror(errno));
    close(file);
    sha256_end(&sum, hex);
    return size == 0;
}

static bool older(int folder, const char *name, time_t seconds, bool directory)
{
    struct stat found;
    return fstatat(folder, name, &found, AT_SYMLINK_NOFOLLOW) == 0 &&
           (directory ? S_ISDIR(found.st_mode) : S_ISREG(found.st_mode)) &&
           time(NULL) - found.st_mtime > seconds;
}

/* A folder's name: 32 hexadecimal digits, as of the client's digest of the agent. */
static bool is_digest(const char *name)
{
    return strlen(name) == 32 && strspn(name, "0123456789abcdef") == 32;
}

/* Removes what transfers that were cut off left in a folder, and with `all` the agent in it, too. */
static void clean(int folder, bool all)
{
    DIR *entries = fdopendir(folder);
    if (entries == NULL) {
        close(folder);
        return;
    }
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        bool part = strncmp(entry->d_name, PART, sizeof PART - 1) == 0 &&
                    older(folder, entry->d_name, PART_S, false);
        if (part || (all && strcmp(entry->d_name, NAME) == 0))
            unlinkat(folder, entry->d_name, 0);
    }
    closedir(entries);
}

/* Removes the agents of other versions in the neighbouring folders that were not used for a day. */
static void tidy(const char *own)
{
    DIR *folders = opendir("..");
    if (folders == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(folders)) != NULL;) {
        bool mine = strcmp(entry->d_name, own) == 0;
        if (!is_digest(entry->d_name) || (!mine && !older(dirfd(folders), entry->d_name, UNUSED_S, true)))
            continue;
        int folder =
            openat(dirfd(folders), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (folder >= 0)
            clean(folder, !mine);
        if (!mine)
            unlinkat(dirfd(folders), entry->d_name, AT_REMOVEDIR); /* if it is empty */
    }
    closedir(folders);
}

bool settle(int count, char **words, struct failure *failure)
{
    char hex[SHA256_HEX];
    if (count != 1 && count != 3)
        return fail(failure, STATUS_USAGE, "settle needs a folder, and for a new agent its file's name and sha256");
    const char *folder = words[0], *part = count == 3 ? words[1] : NULL;
    const char *own = strrchr(folder, '/');
    if (chdir(folder) != 0)
        return fail(failure, STATUS_INPUT, "%s: %s", folder, strerror(errno));
    if (!hash_file(part == NULL ? NAME : part, hex, failure))
        return false;
    if (part != NULL && strcmp(hex, words[2]) != 0)
        return fail(failure, STATUS_INPUT, "the agent on the board differs from what was sent");
    if (part != NULL && rename(part, NAME) != 0)
        return fail(failure, STATUS_OUTPUT, "%s/%s cannot be replaced: %s", folder, NAME, strerror(errno));
    int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (here >= 0) {
        if (part != NULL)
            fsync(here);
        futimens(here, NULL); /* used now */
        close(here);
    }
    tidy(own == NULL ? folder : own + 1);
    struct json json = {stdout, false};
    json_open(&json, NULL, '{');
    json_bool(&json, "ok", true);
    json_text(&json, "sha256", hex);
    return json_end(&json) || fail(failure, STATUS_OUTPUT, "stdout cannot be written: %s", strerror(errno));
}
