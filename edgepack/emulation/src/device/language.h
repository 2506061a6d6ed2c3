/* CUDA's keywords, and the few names that the source expects of the C++ standard library. */
#ifndef EDGEPACK_EMULATION_DEVICE_LANGUAGE_H
#define EDGEPACK_EMULATION_DEVICE_LANGUAGE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../launch.h"

#ifndef __CUDA_ARCH__
#define __CUDA_ARCH__ 870
#endif
#define __CUDACC__ 1
#define __CUDACC_RTC__ 1
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0

#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __forceinline__ inline __attribute__((always_inline))
#undef __noinline__
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __maxnreg__(...)
#define __restrict__ /* a promise of the source, which may be wrong: it would hide faults */
#define __align__(n) __attribute__((aligned(n)))

/* All of this folder's functions: inlined into the kernels and never exported. */
#define EMU_DEVICE static inline __attribute__((always_inline, unused))
/* Those that read what belongs to the driver or to other lanes: their accesses are not checked as a kernel's are. */
#define EMU_DRIVER static __attribute__((noinline, unused, no_sanitize("kernel-address")))

#define __syncthreads() emu_barrier(__LINE__)

/* The rank of a thread in its block is that of its lane in the warp. */
EMU_DRIVER uint32_t emu_own_lane(void) { return emu_self()->number % EMU_WARP; }

static const int warpSize = EMU_WARP;

typedef unsigned int uint;
typedef unsigned short ushort;

template <class To, class From> EMU_DEVICE To emu_bits(const From &value) {
    static_assert(sizeof(To) == sizeof(From), "a value's bits keep their size");
    return __builtin_bit_cast(To, value);
}

namespace cuda {
namespace std {
using ::int16_t;
using ::int32_t;
using ::int64_t;
using ::int8_t;
using ::uint16_t;
using ::uint32_t;
using ::uint64_t;
using ::uint8_t;
using size_t = decltype(sizeof 0);

template <bool Value> struct bool_constant {
    static constexpr bool value = Value;
};
template <class A, class B> struct is_same : bool_constant<false> {};
template <class A> struct is_same<A, A> : bool_constant<true> {};
template <class A, class B> inline constexpr bool is_same_v = is_same<A, B>::value;

template <class A> struct emu_plain { using type = A; };
template <class A> struct emu_plain<const A> { using type = A; };
template <class A> struct emu_plain<volatile A> { using type = A; };
template <class A> struct emu_plain<const volatile A> { using type = A; };
template <class A, class... Any> inline constexpr bool emu_one_of = (is_same_v<typename emu_plain<A>::type, Any> || ...);

template <class A> struct is_floating_point : bool_constant<emu_one_of<A, float, double, long double>> {};
template <class A>
struct is_integral
    : bool_constant<emu_one_of<A, bool, char, signed char, unsigned char, wchar_t, short, unsigned short, int, unsigned, long,
                               unsigned long, long long, unsigned long long>> {};
template <class A, bool = is_integral<A>::value> struct is_unsigned : bool_constant<false> {};
template <class A> struct is_unsigned<A, true> : bool_constant<(A(0) < A(-1))> {};
template <class A, bool = is_integral<A>::value> struct is_signed : is_floating_point<A> {};
template <class A> struct is_signed<A, true> : bool_constant<(A(-1) < A(0))> {};

template <bool, class A = void> struct enable_if {};
template <class A> struct enable_if<true, A> { using type = A; };
template <bool, class A, class B> struct conditional { using type = A; };
template <class A, class B> struct conditional<false, A, B> { using type = B; };
} // namespace std
} // namespace cuda

#endif
