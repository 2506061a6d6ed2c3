/* The model that is linked into a static agent. */
#ifndef EDGEPACK_LINKED_H
#define EDGEPACK_LINKED_H

#include "elf_check.h"
#include "net.h"

struct linked_model {
    const unsigned char *build_id; /* of the model's library, which has the same kernels */
    struct net_functions functions;
};

/* Its address is NULL in an agent without a model. */
extern const struct linked_model linked_model __attribute__((weak));

#endif
