/* Whether this CPU has the instructions that kernels are compiled to. */
#ifndef EDGEPACK_CPU_H
#define EDGEPACK_CPU_H

#include <stdbool.h>
#include <stddef.h>

#include "edgepack_net.h"

/* False with the names of the features that are missing, after commas. The list ends with one that has no name. */
bool cpu_has(const edgepack_feature *features, char *missing, size_t size);

#endif
