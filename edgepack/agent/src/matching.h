/* Paths of files by a pattern. */
#ifndef EDGEPACK_MATCHING_H
#define EDGEPACK_MATCHING_H

/* Calls `each` with the paths below `root` that match, in the order of bytes. A part of the pattern may have one `*`,
 * which stands for anything but a dot at the beginning. Longer paths than 4095 bytes are left out. */
void each_match(const char *root, const char *pattern,
                void (*each)(const char *root, const char *path, void *context), void *context);

#endif
