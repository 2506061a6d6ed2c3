/* Detects a damaged or incompatible shared library by its ELF header before the loader maps it: the loader
 * does not check sizes, and is killed by SIGBUS on a truncated file. */
#ifndef EDGEPACK_ELF_CHECK_H
#define EDGEPACK_ELF_CHECK_H

#include "fail.h"

enum { BUILD_ID = 16 }; /* bytes */

/* `build_id` gets what the linker has written as that, or zeros; it may be NULL. */
bool elf_check(const char *path, unsigned char *build_id, struct failure *failure);

#endif
