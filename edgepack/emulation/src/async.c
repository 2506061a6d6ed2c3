/* Asynchronous copies to shared memory (cp.async): a thread's copies arrive when it waits for their group, no earlier. */
#include <stdlib.h>
#include <string.h>

#include "fibers.h"

enum { MAX_COPIES = 512 };

struct copies {
    uint32_t count, group; /* copies under way, and the group that the next one joins */
    struct {
        void *to;
        uint32_t size, group;
        char bytes[16];
    } all[MAX_COPIES];
};

/* The running thread's copies; those of an earlier block of its fiber are forgotten. */
static struct copies *own(void)
{
    struct fiber *self = emu_worker->current;
    if (self->copies == NULL && (self->copies = malloc(sizeof *self->copies)) == NULL)
        emu_fault("no memory for asynchronous copies");
    if (!self->copying)
        self->copies->count = self->copies->group = 0;
    self->copying = true;
    return self->copies;
}

void emu_async_copy(void *to, const void *bytes, size_t size)
{
    struct copies *copies = own();
    if (copies->count == MAX_COPIES)
        emu_fault("more than %d asynchronous copies of a thread are under way", MAX_COPIES);
    copies->all[copies->count].to = to;
    copies->all[copies->count].size = (uint32_t)size;
    copies->all[copies->count].group = copies->group;
    memcpy(copies->all[copies->count].bytes, bytes, size);
    copies->count++;
}

void emu_async_commit(void)
{
    own()->group++;
}

void emu_async_wait(uint32_t pending)
{
    struct copies *copies = own();
    uint32_t kept = 0;
    for (uint32_t i = 0; i < copies->count; i++) {
        /* Groups below group - pending are waited for; the open one is not committed yet. */
        if (copies->all[i].group + pending < copies->group)
            memcpy(copies->all[i].to, copies->all[i].bytes, copies->all[i].size);
        else
            copies->all[kept++] = copies->all[i];
    }
    copies->count = kept;
}
