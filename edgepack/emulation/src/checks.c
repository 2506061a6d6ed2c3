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

static __attribute__((noreturn)) void outside_array(const struct worker *worker, uintptr_t address, size_t size, bool write)
{
    int near = 0;
    for (int i = 1; i < emu_bounds.array_count; i++)
        if (emu_bounds.arrays[i].start <= address + SHARED_GAP)
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
    const char *why = memory_fault(address, size, text, sizeof text);
    if (why != NULL)
        emu_fault_with(CUDA_ILLEGAL_ADDRESS, "%s of %zu bytes %s", verb(write), size, why);
}
