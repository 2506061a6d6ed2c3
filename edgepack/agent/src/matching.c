#include "matching.h"

#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What is looked for: `path` is found up to `length`, and `rest` is the pattern behind it. */
struct search {
    char path[PATH_MAX];
    const char *root; /* which the path begins with */
    void (*each)(const char *root, const char *path, void *context);
    void *context;
};

/* Whether a name is a part of the pattern, `length` bytes long with a `*` at `star`. */
static bool matches(const char *name, const char *part, size_t star, size_t length)
{
    const size_t size = strlen(name), behind = length - star - 1;
    return (name[0] != '.' || part[0] == '.') && size >= star + behind && memcmp(name, part, star) == 0 &&
           memcmp(name + size - behind, part + star + 1, behind) == 0;
}

/* Finds the first name in a folder after `after` that matches; false if there is none. Folders are read once for each
 * match, so that no list has to be kept. */
static bool next_name(const char *folder, const char *part, size_t star, size_t length, const char *after,
                      char *found)
{
    const struct dirent *entry;
    DIR *stream = opendir(folder);
    if (stream == NULL)
        return false;
    found[0] = '\0';
    while ((entry = readdir(stream)) != NULL)
        if (matches(entry->d_name, part, star, length) && strcmp(entry->d_name, after) > 0 &&
            (found[0] == '\0' || strcmp(entry->d_name, found) < 0))
            snprintf(found, NAME_MAX + 1, "%s", entry->d_name);
    closedir(stream);
    return found[0] != '\0';
}

static void search(struct search *all, size_t length, const char *rest);

/* The part of the pattern after a slash, in which there is a `*`. */
static void search_part(struct search *all, size_t length, const char *part)
{
    char name[NAME_MAX + 1] = "", found[NAME_MAX + 1], folder[PATH_MAX];
    const size_t size = strcspn(part, "/"), star = strcspn(part, "*");
    snprintf(folder, sizeof folder, "%.*s", (int)length, all->path);
    while (next_name(folder, part, star, size, name, found)) {
        const int used = snprintf(all->path + length, sizeof all->path - length, "%s", found);
        memcpy(name, found, sizeof name);
        if ((size_t)used < sizeof all->path - length)
            search(all, length + (size_t)used, part + size);
    }
}

static void search(struct search *all, size_t length, const char *rest)
{
    size_t literal = strcspn(rest, "*");
    if (rest[literal] != '\0') /* up to the slash before the part with the `*` */
        while (literal > 0 && rest[literal - 1] != '/')
            literal--;
    if (literal >= sizeof all->path - length)
        return;
    memcpy(all->path + length, rest, literal);
    length += literal;
    all->path[length] = '\0';
    if (rest[literal] != '\0')
        search_part(all, length, rest + literal);
    else if (access(all->path, F_OK) == 0)
        all->each(all->root, all->path + strlen(all->root), all->context);
}

void each_match(const char *root, const char *pattern,
                void (*each)(const char *root, const char *path, void *context), void *context)
{
    struct search all = {.root = root, .each = each, .context = context};
    const size_t length = strlen(root);
    if (length >= sizeof all.path)
        return;
    memcpy(all.path, root, length);
    search(&all, length, pattern);
}
