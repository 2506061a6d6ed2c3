/* Facts from the kernel about the board: files in /proc and /sys, read below a root directory, so
 * that a mounted image can be probed as well as the running board. */
#ifndef EDGEPACK_BOARD_H
#define EDGEPACK_BOARD_H

#include "json.h"

/* Longest root in bytes. */
enum { MAX_ROOT = 3072 };

/* Opens ROOT/PATH for reading; NULL if it is no regular file, or cannot be read. */
FILE *board_open(const char *root, const char *path);

/* The first `size - 1` bytes of ROOT/PATH without trailing newlines and NULs; false if unreadable. */
bool board_read(const char *root, const char *path, char *text, size_t size);

/* The value of the first line "KEY<spaces>:<spaces>VALUE" in `text`, into `value`. */
bool board_field(const char *text, const char *key, char *value, size_t size);

/* A number of kB from /proc/meminfo or /proc/self/status, -1 if absent. */
int64_t board_kib(const char *root, const char *path, const char *key);

/* Writes the member `key`: governors, frequencies, temperatures, throttling, load and free memory. */
void board_state(struct json *json, const char *key, const char *root);

#endif
