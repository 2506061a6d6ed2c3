/* Tells a damaged or foreign shared library by its ELF header, before the loader maps it: the loader
 * does not check sizes, and dies of SIGBUS on a truncated file. */
#ifndef EDGEPACK_ELF_CHECK_H
#define EDGEPACK_ELF_CHECK_H

#include "fail.h"

bool elf_check(const char *path, struct failure *failure);

#endif
