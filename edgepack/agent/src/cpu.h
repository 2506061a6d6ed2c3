/* The CPU's name and its instruction set extensions, as named by the kernel. */
#ifndef EDGEPACK_CPU_H
#define EDGEPACK_CPU_H

#include "json.h"

/* Writes the members "cpu" (string or null) and "features" (array of strings). */
void cpu_describe(struct json *json, const char *root);

#endif
