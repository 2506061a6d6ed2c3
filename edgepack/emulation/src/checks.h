/* Every access of a kernel to memory: clang's kernel address sanitizer calls these functions, which are ours.
 *
 * They are part of each module, since a call within a library is cheaper than one to another, above all under qemu.
 * An access is named by its size; `N` is any size, or one without a natural alignment. */
#ifndef EDGEPACK_EMULATION_CHECKS_H
#define EDGEPACK_EMULATION_CHECKS_H

#include <string.h>

#include "launch.h"

#define EMU_CHECK extern "C" __attribute__((visibility("hidden"), used, always_inline, no_sanitize("kernel-address")))

EMU_UNCHECKED static inline __attribute__((always_inline)) void emu_check(uintptr_t address, size_t size, bool write)
{
    const struct emu_bounds *bounds = &emu_bounds;
    uintptr_t offset = address - bounds->memory;
    if (offset < bounds->memory_size) {
        if (address + size <= bounds->limit[bounds->owner[offset >> EMU_GRANULE_SHIFT]]) return;
    } else if (address - bounds->stack < EMU_STACK_SIZE) {
        return;
    } else {
        for (int i = 0; i < bounds->array_count; i++)
            if (address >= bounds->arrays[i].start && address + size <= bounds->arrays[i].end) return;
    }
    emu_check_slowly(address, size, write);
}

#define EMU_ACCESS(SIZE)                                                    \
    EMU_CHECK void __asan_load##SIZE(uintptr_t address)                     \
    {                                                                       \
        if (address & (SIZE - 1)) emu_misaligned(SIZE, false);              \
        emu_check(address, SIZE, false);                                    \
    }                                                                       \
    EMU_CHECK void __asan_store##SIZE(uintptr_t address)                    \
    {                                                                       \
        if (address & (SIZE - 1)) emu_misaligned(SIZE, true);               \
        emu_check(address, SIZE, true);                                     \
    }
EMU_ACCESS(1)
EMU_ACCESS(2)
EMU_ACCESS(4)
EMU_ACCESS(8)
EMU_ACCESS(16)
#undef EMU_ACCESS

EMU_CHECK void __asan_loadN(uintptr_t address, size_t size)
{
    emu_check(address, size, false);
}

EMU_CHECK void __asan_storeN(uintptr_t address, size_t size)
{
    emu_check(address, size, true);
}

EMU_CHECK void *__asan_memmove(void *to, const void *from, size_t size)
{
    emu_check((uintptr_t)from, size, false);
    emu_check((uintptr_t)to, size, true);
    return memmove(to, from, size);
}

EMU_CHECK void *__asan_memcpy(void *to, const void *from, size_t size)
{
    return __asan_memmove(to, from, size);
}

EMU_CHECK void *__asan_memset(void *to, int value, size_t size)
{
    emu_check((uintptr_t)to, size, true);
    return memset(to, value, size);
}

EMU_CHECK void __asan_handle_no_return(void) {}

/* Indices of arrays and divisors, which clang's undefined behaviour sanitizer checks. */
#define EMU_WRONG extern "C" __attribute__((visibility("hidden"), used, noinline, cold, noreturn, no_sanitize("kernel-address")))

EMU_WRONG void __ubsan_handle_out_of_bounds_abort(const void *place, uintptr_t index) { emu_outside(place, index); }
EMU_WRONG void __ubsan_handle_local_out_of_bounds_abort(void) { emu_outside(NULL, 0); }
EMU_WRONG void __ubsan_handle_divrem_overflow_abort(const void *place, uintptr_t, uintptr_t) { emu_division(place); }

#endif
