/* Shared memory: the arrays of a block, in the order in which its threads come to them, with unused bytes between them. */
#include <string.h>

#include "fibers.h"

static void *find_shared(const struct worker *worker, int site)
{
    for (int i = 0; i < emu_bounds.array_count; i++)
        if (worker->sites[i] == site)
            return (void *)emu_bounds.arrays[i].start;
    return NULL;
}

/* A kernel may use 48 KiB, and more only if cuFuncSetAttribute allowed it: static and dynamic memory together. */
static void *place_shared(struct worker *worker, int site, size_t size, size_t alignment)
{
    int index = emu_bounds.array_count;
    size_t dynamic = worker->launch->dynamic_shared;
    if (worker->static_used > 0 && worker->static_used + dynamic > worker->launch->shared_limit)
        emu_fault_with(CUDA_INVALID_VALUE, "%zu bytes of static and %zu bytes of dynamic shared memory, %zu are allowed for it",
                       worker->static_used, dynamic, worker->launch->shared_limit);
    if (index == EMU_MAX_SHARED_ARRAYS)
        emu_fault("more than %d shared arrays", EMU_MAX_SHARED_ARRAYS);
    alignment = alignment < 16 ? 16 : alignment;
    size_t start = (worker->shared_used + SHARED_GAP + alignment - 1) / alignment * alignment;
    if (start + size + SHARED_GAP > SHARED_SIZE)
        emu_fault("%zu bytes of shared memory do not fit", start + size);
    worker->shared_used = start + size;
    worker->sites[index] = site;
    emu_bounds.arrays[index].start = (uintptr_t)worker->shared + start;
    emu_bounds.arrays[index].end = (uintptr_t)worker->shared + start + size;
    emu_bounds.array_count++;
    memory_allow((uintptr_t)worker->shared + start, size);
    memset(worker->shared + start, 0xff, size);
    return worker->shared + start;
}

void *emu_shared(int site, size_t size, size_t alignment)
{
    struct worker *worker = emu_worker;
    void *there = find_shared(worker, site);
    if (there != NULL)
        return there;
    worker->static_used += size;
    if (worker->static_used > STATIC_SHARED_LIMIT)
        emu_fault("%zu bytes of static shared memory, at most %d are possible", worker->static_used,
                  STATIC_SHARED_LIMIT);
    return place_shared(worker, site, size, alignment);
}

void *emu_dynamic_shared(void)
{
    struct worker *worker = emu_worker;
    void *there = find_shared(worker, DYNAMIC_SITE);
    return there ? there : place_shared(worker, DYNAMIC_SITE, worker->launch->dynamic_shared, 128);
}
