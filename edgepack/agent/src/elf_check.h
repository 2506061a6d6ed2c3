/* Detects a damaged or incompatible shared library by its ELF header before the loader maps it: the loader
 * does not check sizes, and is killed by SIGBUS on a truncated file. */
#ifndef EDGEPACK_ELF_CHECK_H
#define EDGEPACK_ELF_CHECK_H

#include "fail.h"

bool elf_check(const char *path, struct failure *failure);

#endif
