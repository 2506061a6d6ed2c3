/* What is in a folder, as JSON lines. */
#ifndef EDGEPACK_LISTING_H
#define EDGEPACK_LISTING_H

#include "beneath.h"
#include "fail.h"
#include "json.h"

/* What is done with each regular file and folder besides telling its kind and mode. */
enum { LIST_SHA256 = 1, LIST_SYNC = 2 };

/* Writes a line for the folder `name` in `parent`, and one for each entry below it:
 * {"in": NAME, "path": PATH, "kind": KIND, "mode": MODE, "sha256": TEXT}. Only regular files are opened. A
 * folder that cannot be read, or is too deep, is of the kind "other". With LIST_SYNC, each file and folder is
 * written to the disk first, and a failure of that is the only one. */
bool list_folder(int parent, const char *name, int what, struct failure *failure);

/* Writes {KEY: NAME, "text": TEXT}: up to `limit` bytes of a regular file, its last ones if it is longer and
 * `limit` is negative. Without such a file, writes nothing. */
bool list_text(const char *key, const char *name, int folder, const char *file, long limit,
               struct failure *failure);

/* Ends a line that is not the last one. */
void line_end(struct json *json);

#endif
