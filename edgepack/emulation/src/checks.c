/* Every access of a kernel to memory: clang's kernel address sanitizer calls these functions, which are ours.
 *
 * An access is named by its size; `N` is any size, or one without a natural alignment. */
#include <string.h>

#include "fibers.h"

static __attribute__((noinline, cold)) void check_slowly(uintptr_t address, size_t size, const char *what)
{
    struct worker *worker = emu_worker;
    char text[256];
    for (int i = 0; i < worker->array_count; i++) {
        const struct shared_array *array = &worker->arrays[i];
        if (address >= array->start && address + size <= array->end)
            return;
    }
    if (address - worker->launch->constants < worker->launch->constants_end - worker->launch->constants)
        return;
    if (address - (uintptr_t)worker->shared < SHARED_SIZE) {
        const struct shared_array *near = NULL;
        for (int i = 0; i < worker->array_count; i++)
            if (near == NULL || worker->arrays[i].start <= address + SHARED_GAP)
                near = &worker->arrays[i];
        if (near == NULL)
            emu_fault_with(CUDA_ILLEGAL_ADDRESS, "%s of %zu bytes in shared memory without an array", what, size);
        emu_fault_with(CUDA_ILLEGAL_ADDRESS, "%s of %zu bytes at offset %lld of a shared array of %zu bytes%s", what,
                       size, (long long)(address - near->start), (size_t)(near->end - near->start),
                       near->site < 0 ? " (dynamic)" : "");
    }
    const char *why = memory_fault(address, size, text, sizeof text);
    if (why != NULL)
        emu_fault_with(CUDA_ILLEGAL_ADDRESS, "%s of %zu bytes %s", what, size, why);
}

static inline void check(uintptr_t address, size_t size, const char *what)
{
    const struct worker *worker = emu_worker;
    uintptr_t offset = address - memory_base;
    if (offset < memory_span) {
        if (address + size <= memory_limits[memory_owner[offset >> MEMORY_GRANULE_SHIFT]])
            return;
    } else if (worker == NULL || address - worker->stack_start < STACK_SIZE) {
        return;
    } else if (address - (uintptr_t)worker->fibers < EMU_MAX_THREADS * sizeof *worker->fibers) {
        return; /* the slots of a warp's exchange, and the indices of threads */
    } else if (worker->array_count > 0 && address >= worker->arrays[0].start &&
               address + size <= worker->arrays[0].end) {
        return;
    }
    check_slowly(address, size, what);
}

static inline void check_aligned(uintptr_t address, size_t size, const char *what)
{
    if (address & (size - 1))
        emu_fault_with(CUDA_MISALIGNED_ADDRESS, "%s of %zu bytes at an address that is no multiple of %zu", what,
                       size, size);
    check(address, size, what);
}

#define ACCESS(SIZE)                                     \
    void __asan_load##SIZE(uintptr_t address);           \
    void __asan_store##SIZE(uintptr_t address);          \
    void __asan_load##SIZE(uintptr_t address)            \
    {                                                    \
        check_aligned(address, SIZE, "a read");          \
    }                                                    \
    void __asan_store##SIZE(uintptr_t address)           \
    {                                                    \
        check_aligned(address, SIZE, "a write");         \
    }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)

void __asan_loadN(uintptr_t address, size_t size);
void __asan_storeN(uintptr_t address, size_t size);
void *__asan_memcpy(void *to, const void *from, size_t size);
void *__asan_memmove(void *to, const void *from, size_t size);
void *__asan_memset(void *to, int value, size_t size);
void __asan_handle_no_return(void);

void __asan_loadN(uintptr_t address, size_t size)
{
    check(address, size, "a read");
}

void __asan_storeN(uintptr_t address, size_t size)
{
    check(address, size, "a write");
}

void *__asan_memcpy(void *to, const void *from, size_t size)
{
    check((uintptr_t)from, size, "a read");
    check((uintptr_t)to, size, "a write");
    return memmove(to, from, size);
}

void *__asan_memmove(void *to, const void *from, size_t size)
{
    return __asan_memcpy(to, from, size);
}

void *__asan_memset(void *to, int value, size_t size)
{
    check((uintptr_t)to, size, "a write");
    return memset(to, value, size);
}

void __asan_handle_no_return(void)
{
}
