/* Memory from the system, zeroed, in whole pages. */
#ifndef EDGEPACK_MEMORY_H
#define EDGEPACK_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

enum { LARGE = 4 << 20 /* from here on, large pages are asked for: fewer faults, fewer misses of the TLB */ };

/* NULL if there is none. `size` may be 0. */
static inline void *memory_new(uint64_t size)
{
    void *memory = mmap(NULL, size + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    if (size >= LARGE)
        madvise(memory, size, MADV_HUGEPAGE);
    return memory;
}

/* Safe with NULL. */
static inline void memory_free(void *memory, uint64_t size)
{
    if (memory != NULL)
        munmap(memory, size + 1);
}

#endif
