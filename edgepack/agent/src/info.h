/* `edgepack-agent info`: what this board is, as one JSON line. */
#ifndef EDGEPACK_INFO_H
#define EDGEPACK_INFO_H

#include "fail.h"

bool info(const char *root, const char *work_dir, struct failure *failure);

#endif
