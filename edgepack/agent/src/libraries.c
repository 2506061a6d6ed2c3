#include "libraries.h"

#include <ctype.h>
#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "board.h"
#include "elf_check.h"
#include "matching.h"

#if defined(__aarch64__)
#define ARCH "aarch64"
#define GLIBC_LOADER "/lib/ld-linux-aarch64.so.1"
#else
#define ARCH "x86_64"
#define GLIBC_LOADER "/lib64/ld-linux-x86-64.so.2"
#endif
#define MUSL_LOADER "/lib/ld-musl-" ARCH ".so.1"

enum { PATH_SIZE = MAX_ROOT + 1024 };

/* Where the loader looks beyond its cache. Debian's folders are in the cache only if ldconfig has run. */
static const char *const FOLDERS[] = {"/lib/" ARCH "-linux-gnu", "/usr/lib/" ARCH "-linux-gnu",
                                      "/lib64",                  "/usr/lib64",
                                      "/lib",                    "/usr/lib",
                                      "/usr/local/lib"};

/* A file of the board in memory; NULL if it has none of this name, or an empty one. */
static const char *map_file(const char *root, const char *path, size_t *size)
{
    struct stat info;
    void *data = MAP_FAILED;
    FILE *file = board_open(root, path);
    if (file == NULL)
        return NULL;
    if (fstat(fileno(file), &info) == 0 && info.st_size > 0)
        data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fileno(file), 0);
    fclose(file);
    *size = (size_t)info.st_size;
    return data == MAP_FAILED ? NULL : data;
}

static void unmap_file(const char *data, size_t size)
{
    munmap((void *)data, size);
}

/* The length of digits and dots at `at`. */
static size_t version_length(const char *at, const char *end)
{
    size_t length = 0;
    while (at + length < end && (isdigit((unsigned char)at[length]) || at[length] == '.'))
        length++;
    return length;
}

/* glibc's banner has "release version 2.36.", musl's library the text "1.2.3" alone. */
static size_t find_version(const char *data, size_t size, bool glibc, const char **found)
{
    static const char WORDS[] = "release version ";
    const char *end = data + size;
    if (glibc) {
        const char *at = memmem(data, size, WORDS, sizeof WORDS - 1);
        if (at == NULL)
            return 0;
        *found = at + sizeof WORDS - 1;
        size_t length = version_length(*found, end);
        return length > 0 && (*found)[length - 1] == '.' ? length - 1 : length;
    }
    for (const char *at = data; (at = memchr(at, '\0', (size_t)(end - at))) != NULL;) {
        size_t length = version_length(++at, end), dots = 0;
        for (size_t i = 0; i < length; i++)
            dots += at[i] == '.';
        if (length >= 5 && length < 12 && dots == 2 && isdigit((unsigned char)at[0]) && at + length < end &&
            at[length] == '\0') {
            *found = at;
            return length;
        }
    }
    return 0;
}

static void describe(const char *root, const char *path, bool glibc, char *text, size_t size)
{
    size_t whole, length = 0;
    const char *found = NULL, *name = glibc ? "glibc" : "musl";
    const char *data = map_file(root, path, &whole);
    if (data != NULL)
        length = find_version(data, whole, glibc, &found);
    snprintf(text, size, length > 0 ? "%s %.*s" : "%s", name, (int)length, length > 0 ? found : "");
    if (data != NULL)
        unmap_file(data, whole);
}

static bool is_library(const char *root, const char *folder, const char *name)
{
    char full[PATH_SIZE];
    struct failure ignored;
    return snprintf(full, sizeof full, "%s%s/%s", root, folder, name) < (int)sizeof full &&
           elf_check(full, NULL, &ignored);
}

static bool exists(const char *root, const char *path)
{
    char full[PATH_SIZE];
    return snprintf(full, sizeof full, "%s%s", root, path) < (int)sizeof full && access(full, F_OK) == 0;
}

bool libraries_libc(const char *root, char *text, size_t size)
{
    char path[PATH_SIZE];
    for (size_t i = 0; i < sizeof FOLDERS / sizeof FOLDERS[0] && exists(root, GLIBC_LOADER); i++) {
        if (!is_library(root, FOLDERS[i], "libc.so.6"))
            continue;
        snprintf(path, sizeof path, "%s/libc.so.6", FOLDERS[i]);
        describe(root, path, true, text, size);
        return true;
    }
    if (!exists(root, MUSL_LOADER))
        return false;
    describe(root, MUSL_LOADER, false, text, size);
    return true;
}

/* The loader's cache names each library with its path, as text with a NUL behind it. */
static bool in_cache(const char *root, const char *name)
{
    char wanted[256];
    size_t size;
    bool found = false;
    const char *data = map_file(root, "/etc/ld.so.cache", &size);
    int length = snprintf(wanted, sizeof wanted, "/%s", name) + 1; /* with the NUL */
    if (data == NULL)
        return false;
    const char *at = data, *end = data + size;
    while (!found && length < (int)sizeof wanted &&
           (at = memmem(at, (size_t)(end - at), wanted, (size_t)length)) != NULL) {
        const char *folder = at;
        while (folder > data && folder[-1] != '\0')
            folder--;
        char path[PATH_SIZE];
        snprintf(path, sizeof path, "%.*s", (int)(at - folder), folder);
        found = is_library(root, path, name);
        at += length;
    }
    unmap_file(data, size);
    return found;
}

bool libraries_find(const char *root, const char *name)
{
    for (size_t i = 0; i < sizeof FOLDERS / sizeof FOLDERS[0]; i++)
        if (is_library(root, FOLDERS[i], name))
            return true;
    return in_cache(root, name);
}

struct search {
    const char *name;
    char *folder;
    size_t size;
    bool found;
};

static void look_in(const char *root, const char *path, void *context)
{
    struct search *search = context;
    if (search->found || !is_library(root, path, search->name))
        return;
    search->found = true;
    snprintf(search->folder, search->size, "%s", path);
}

bool libraries_in_cuda(const char *root, const char *name, char *folder, size_t size)
{
    struct search search = {name, folder, size, false};
    each_match(root, "/usr/local/cuda*/lib64", look_in, &search);
    each_match(root, "/usr/local/cuda*/targets/*/lib", look_in, &search);
    return search.found;
}

int libraries_bits(const char *root)
{
    unsigned char head[EI_NIDENT];
    FILE *file = board_open(root, "/bin/sh");
    bool elf = file != NULL && fread(head, sizeof head, 1, file) == 1 && memcmp(head, ELFMAG, SELFMAG) == 0;
    if (file != NULL)
        fclose(file);
    return !elf ? 0 : head[EI_CLASS] == ELFCLASS32 ? 32 : 64;
}
