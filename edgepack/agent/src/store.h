/* `store`: what is done with releases on a board. Its actions and their lines are in docs/agent-protocol.md.
 */
#ifndef EDGEPACK_STORE_H
#define EDGEPACK_STORE_H

#include <stddef.h>

#include "fail.h"

enum { MAX_MANIFEST = 8 << 20 }; /* bytes; edgepack.bundle.archive */

/* Runs the action that the first word names. */
bool store(int count, char **words, struct failure *failure);

/* The actions. They get the words after their names, as many as store.c says, and NULL after the last. */
bool store_survey(char **words, struct failure *failure);
bool store_list(char **words, struct failure *failure);
bool store_use(char **words, struct failure *failure);
bool store_names(char **words, struct failure *failure);
bool store_lock(char **words, struct failure *failure);
bool store_open(char **words, struct failure *failure);
bool store_fill(char **words, struct failure *failure);
bool store_check(char **words, struct failure *failure);
bool store_try(char **words, struct failure *failure);
bool store_publish(char **words, struct failure *failure);
bool store_remove(char **words, struct failure *failure);
bool store_receive(char **words, struct failure *failure);

/* Opens the lock file in a folder with these flags; it is a regular file, and no link. Returns -1 on failure.
 */
int lock_file(int folder, int flags, struct failure *failure);

/* Opens the folder `root` for a change: the process `holder` must hold its lock. As long as the folder is
 * open, the lock does not pass to another machine. Returns -1 on failure. */
int guard(const char *root, const char *holder, struct failure *failure);

/* Writes what is on the file system of a folder to its disk. */
bool flush(int folder, struct failure *failure);

/* Renames a file or folder to a name that is free; -1 and errno (EEXIST) otherwise. */
int rename_new(int from_folder, const char *from, int to_folder, const char *to);

/* Writes all of the data to an open file. */
bool write_all(int file, const char *data, size_t size);

/* Reads a line of stdin without its newline; NULL at the end. It is valid until the next call. */
char *order_line(void);

/* Opens the folder words[2] below `*root`, which is words[0], whose lock the process words[1] holds; -1 on failure. */
int open_below(char **words, int *root, struct failure *failure);

/* Ends the answer. */
bool store_done(struct failure *failure);

#endif
