/* Libraries that are loaded at run time. A static agent loads none. */
#ifndef EDGEPACK_RUNTIME_H
#define EDGEPACK_RUNTIME_H

#include <stddef.h>

#include "fail.h"

/* Whether this agent can load libraries. */
bool runtime_exists(void);

/* Whether the dynamic loader finds a library and what it needs; of a static agent, whether it finds the library. */
bool runtime_loads(const char *library);

/* Loads TVM's runtime; `text` gets the version that it reports. */
bool runtime_version(char *text, size_t size, struct failure *failure);

#endif
