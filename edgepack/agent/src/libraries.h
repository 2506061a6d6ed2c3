/* The C library and the shared libraries of a board, found in files: a static program has no loader to ask. */
#ifndef EDGEPACK_LIBRARIES_H
#define EDGEPACK_LIBRARIES_H

#include <stdbool.h>
#include <stddef.h>

/* The board's C library, as "glibc 2.36" or "musl 1.2.3", or only its name if its version is unknown. False if programs
 * of this architecture find none. */
bool libraries_libc(const char *root, char *text, size_t size);

/* Whether the loader finds a library of this architecture. */
bool libraries_find(const char *root, const char *name);

/* The folder of CUDA that has this library, whether or not the loader finds it. */
bool libraries_in_cuda(const char *root, const char *name, char *folder, size_t size);

/* 32 or 64: the programs of the board; 0 if it has no /bin/sh that is an ELF file. */
int libraries_bits(const char *root);

#endif
