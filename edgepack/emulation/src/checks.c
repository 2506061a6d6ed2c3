/* The accesses to memory that checks.h does not allow at once. */
#include "fibers.h"

static const char *verb(bool write)
{
    return write ? "a write" : "a read";
}

void emu_misaligned(size_t size, bool write)
{
    emu_fault_with(CUDA_MISALIGNED_ADDRESS, "%s of %zu bytes at an address that is no multiple of %zu", verb(write), size,
                   size);
}

static uintptr_t distance(int array, uintptr_t address)
{
    uintptr_t start = emu_bounds.arrays[array].start, end = emu_bounds.arrays[array].end;
    return address < start ? start - address : address < end ? 0 : address - end;
}

static __attribute__((noreturn)) void outside_array(const struct worker *worker, uintptr_t address, size_t size, bool write)
{
    int near = 0;
    for (int i = 1; i < emu_bounds.array_count; i++)
        if (distance(i, address) < distance(near, address))
            near = i;
    if (emu_bounds.array_count == 0)
        emu_fault_with(CUDA_ILLEGAL_ADDRESS, "%s of %zu bytes in shared memory without an array", verb(write), size);
    emu_fault_with(CUDA_ILLEGAL_ADDRESS, "%s of %zu bytes at offset %lld of a%s shared array of %zu bytes", verb(write),
                   size, (long long)(address - emu_bounds.arrays[near].start),
                   worker->sites[near] == DYNAMIC_SITE ? " dynamic" : "",
                   (size_t)(emu_bounds.arrays[near].end - emu_bounds.arrays[near].start));
}

void emu_check_slowly(uintptr_t address, size_t size, bool write)
{
    const struct worker *worker = emu_worker;
    char text[256];
    if (worker == NULL || (address >= emu_bounds.slots && address + size <= emu_bounds.slots_end))
        return; /* not in a kernel; the slots of a warp's exchange, and the indices of threads */
    if (address - worker->launch->constants < worker->launch->constants_end - worker->launch->constants)
        return;
    if (address - (uintptr_t)worker->shared < SHARED_SIZE)
        outside_array(worker, address, size, write);
    if (address - (uintptr_t)worker->stacks < worker_stacks_size(worker))
        emu_fault_with(CUDA_ILLEGAL_ADDRESS, "%s of %zu bytes beyond its own stack of %d KiB", verb(write), size,
                       EMU_STACK_SIZE >> 10);
    const char *why = memory_fault(address, size, text, sizeof text);
    if (why != NULL)
        emu_fault_with(CUDA_ILLEGAL_ADDRESS, "%s of %zu bytes %s", verb(write), size, why);
}

/* What clang's undefined behaviour sanitizer passes. */
struct type {
    uint16_t kind, info; /* of an integer: whether it is signed, and the logarithm of its width */
    char name[];
};
struct place {
    const char *file;
    uint32_t line, column;
    const struct type *types[2]; /* of an index: that of the array and its own */
};

void emu_outside(const void *place, uintptr_t index)
{
    const struct place *at = place;
    if (at == NULL)
        emu_fault_with(CUDA_ILLEGAL_ADDRESS, "an access beyond a local array");
    unsigned width = 1u << (at->types[1]->info >> 1);
    long long value = (long long)index;
    if (at->types[1]->info & 1 && width < 64)
        value = (long long)((unsigned long long)value << (64 - width)) >> (64 - width);
    emu_fault_with(CUDA_ILLEGAL_ADDRESS, "index %lld of an array of type %s in line %u", value, at->types[0]->name,
                   at->line);
}

void emu_division(const void *place)
{
    emu_fault("a division of integers by zero in line %u: a GPU's result is unspecified",
              ((const struct place *)place)->line);
}
