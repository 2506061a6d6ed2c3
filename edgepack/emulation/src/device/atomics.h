/* Atomic functions on global and shared memory: truly atomic, since blocks run on several cores; relaxed, as on the
 * GPU. */
#ifndef EDGEPACK_EMULATION_DEVICE_ATOMICS_H
#define EDGEPACK_EMULATION_DEVICE_ATOMICS_H

#include "bfloat16.h"

EMU_DEVICE void __threadfence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
EMU_DEVICE void __threadfence_block(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
EMU_DEVICE void __threadfence_system(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

template <int bytes> struct emu_word;
template <> struct emu_word<2> { typedef uint16_t type __attribute__((may_alias)); };
template <> struct emu_word<4> { typedef uint32_t type __attribute__((may_alias)); };
template <> struct emu_word<8> { typedef uint64_t type __attribute__((may_alias)); };

/* Replaces *address by change(*address) in one step and returns what it was. */
template <class T, class F> EMU_DEVICE T emu_atomically(T *address, F change) {
    typedef typename emu_word<sizeof(T)>::type word;
    word *cell = (word *)address, before = __atomic_load_n(cell, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(cell, &before, emu_bits<word>(change(emu_bits<T>(before))), false,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return emu_bits<T>(before);
}

#define EMU_ATOMIC(NAME, T, EXPRESSION)                                                                                \
    EMU_DEVICE T NAME(T *address, T value) {                                                                           \
        return emu_atomically(address, [=](T old) -> T { return (T)(EXPRESSION); });                                   \
    }                                                                                                                  \
    EMU_DEVICE T NAME##_block(T *address, T value) { return NAME(address, value); }                                    \
    EMU_DEVICE T NAME##_system(T *address, T value) { return NAME(address, value); }

#define EMU_ATOMICS(T)                                                                                                 \
    EMU_ATOMIC(atomicMin, T, value < old ? value : old)                                                                \
    EMU_ATOMIC(atomicMax, T, old < value ? value : old)                                                                \
    EMU_ATOMIC(atomicAnd, T, old &value)                                                                               \
    EMU_ATOMIC(atomicOr, T, old | value)                                                                               \
    EMU_ATOMIC(atomicXor, T, old ^ value)
EMU_ATOMICS(int)
EMU_ATOMICS(unsigned int)
EMU_ATOMICS(long long)
EMU_ATOMICS(unsigned long long)
EMU_ATOMIC(atomicAdd, int, (unsigned int)old + (unsigned int)value)
EMU_ATOMIC(atomicAdd, unsigned int, old + value)
EMU_ATOMIC(atomicAdd, unsigned long long, old + value)
EMU_ATOMIC(atomicAdd, float, old + value)
EMU_ATOMIC(atomicAdd, double, old + value)
EMU_ATOMIC(atomicAdd, half, old + value)
EMU_ATOMIC(atomicAdd, half2, old + value)
EMU_ATOMIC(atomicAdd, nv_bfloat16, old + value)
EMU_ATOMIC(atomicAdd, nv_bfloat162, old + value)
EMU_ATOMIC(atomicSub, int, (unsigned int)old - (unsigned int)value)
EMU_ATOMIC(atomicSub, unsigned int, old - value)
EMU_ATOMIC(atomicExch, int, (void(old), value))
EMU_ATOMIC(atomicExch, unsigned int, (void(old), value))
EMU_ATOMIC(atomicExch, unsigned long long, (void(old), value))
EMU_ATOMIC(atomicExch, float, (void(old), value))
EMU_ATOMIC(atomicInc, unsigned int, old >= value ? 0 : old + 1)
EMU_ATOMIC(atomicDec, unsigned int, old == 0 || old > value ? value : old - 1)
#undef EMU_ATOMICS
#undef EMU_ATOMIC

#define EMU_CAS(T)                                                                                                     \
    EMU_DEVICE T atomicCAS(T *address, T compare, T value) {                                                           \
        return emu_atomically(address, [=](T old) -> T { return old == compare ? value : old; });                      \
    }
EMU_CAS(unsigned short)
EMU_CAS(int)
EMU_CAS(unsigned int)
EMU_CAS(unsigned long long)
#undef EMU_CAS

#endif
