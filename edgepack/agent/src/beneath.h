/* Files and folders below a folder, reached without following symbolic links. */
#ifndef EDGEPACK_BENEATH_H
#define EDGEPACK_BENEATH_H

#include <stdbool.h>
#include <sys/stat.h>

enum kind { KIND_NONE, KIND_FILE, KIND_FOLDER, KIND_LINK, KIND_OTHER };

/* What is at a name in a folder; `info` may be NULL. A link is KIND_LINK, wherever it points to. */
enum kind kind_at(int folder, const char *name, struct stat *info);
const char *kind_name(enum kind kind);

/* Whether a path is relative and stays below its folder: no part of it is "..". */
bool is_beneath(const char *path);

/* Opens a folder by its path, whose last part is not followed; -1 and errno on failure. */
int folder_open(const char *path);

/* Opens a folder below another one. A link in any part of the path is an error (ELOOP or ENOTDIR). */
int folder_at(int base, const char *path);

/* Opens the folder that the last part of a path is in; `name` then points to that part. */
int parent_at(int base, const char *path, const char **name);

/* Opens a regular file, never waiting for a FIFO or a device; -1 and errno on failure. */
int regular_at(int folder, const char *name, int flags);

#endif
