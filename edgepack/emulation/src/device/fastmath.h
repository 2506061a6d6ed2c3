/* The fast functions, with the errors that NVIDIA documents (CUDA C++ Programming Guide, Intrinsic Functions; PTX ISA
 * for the instructions behind them), so that a result that needs more precision fails here too.
 *
 *   __fadd_rn, __fmul_rn, __fmaf_rn, __frcp_rn, __fsqrt_rn, __frsqrt_rn, __fdiv_rn   rounded correctly
 *   __fdividef(x, y)   2 ulp for 2^-126 <= |y| <= 2^126; 0 for 2^126 < |y| < 2^128, NaN if x is infinite there
 *   __expf(x)          2 + floor(|1.173 x|) ulp: 2 to the power of x * log2(e), whose rounding it doubles
 *   __exp10f(x)        2 + floor(|2.97 x|) ulp
 *   __logf(x)          an error of 2^-21.41 in [0.5, 2], 3 ulp elsewhere
 *   __log2f(x)         an error of 2^-22 in [0.5, 2], 2 ulp elsewhere
 *   __log10f(x)        an error of 2^-24 in [0.5, 2], 3 ulp elsewhere
 *   __sinf(x)          an error of 2^-21.41 in [-pi, pi], larger elsewhere
 *   __cosf(x)          an error of 2^-21.19 in [-pi, pi], larger elsewhere
 *   __tanf(x)          __sinf(x) * (1 / __cosf(x))
 *   __powf(x, y)       2 to the power of y * __log2f(x)
 *   __tanhf(x)         a relative error of 2^-11 */
#ifndef EDGEPACK_EMULATION_DEVICE_FASTMATH_H
#define EDGEPACK_EMULATION_DEVICE_FASTMATH_H

#include "language.h"
#include "mathematics.h"

/* `x` as a multiple of 2^-bits: the fixed point of a table look-up. */
EMU_DEVICE float emu_fixed(double x, int bits) { return (float)(rint(x * (double)(1 << bits)) / (double)(1 << bits)); }

EMU_DEVICE float __log2f(float x) { return x >= 0.5f && x <= 2.0f ? emu_fixed(log2((double)x), 22) : log2f(x); }
EMU_DEVICE float __logf(float x) { return __log2f(x) * 0x1.62e43p-1f; }
EMU_DEVICE float __log10f(float x) {
    return x >= 0.5f && x <= 2.0f ? emu_fixed(log10((double)x), 24) : __log2f(x) * 0x1.344136p-2f;
}
EMU_DEVICE float __expf(float x) { return exp2f(x * 0x1.715476p+0f); }
EMU_DEVICE float __exp10f(float x) { return exp2f(x * 0x1.a934fp+1f); }
EMU_DEVICE float __powf(float x, float y) { return exp2f(y * __log2f(x)); }

/* Beyond [-pi, pi] the angle is reduced in float, so that its rounding grows with it. */
EMU_DEVICE float emu_angle(float x) {
    const float pi = 0x1.921fb6p+1f;
    if (fabsf(x) <= pi) return x;
    float turns = x * 0x1.45f306p-3f;
    return (turns - rintf(turns)) * (2 * pi);
}
EMU_DEVICE float __sinf(float x) { return emu_fixed((double)sinf(emu_angle(x)), 21); }
EMU_DEVICE float __cosf(float x) { return emu_fixed((double)cosf(emu_angle(x)), 21); }
EMU_DEVICE void __sincosf(float x, float *s, float *c) { *s = __sinf(x), *c = __cosf(x); }
EMU_DEVICE float __tanf(float x) { return __sinf(x) * (1.0f / __cosf(x)); }
EMU_DEVICE float __tanhf(float x) {
    float y = tanhf(x);
    if (!(fabsf(y) < 1.0f)) return y;
    return emu_bits<float>((emu_bits<uint32_t>(y) + 0x400u) & 0xfffff800u); /* 12 bits of the significand */
}

EMU_DEVICE float __fdividef(float x, float y) {
    float size = fabsf(y);
    if (size > 0x1p126f && size < __builtin_inff()) return fabsf(x) == __builtin_inff() ? __builtin_nanf("") : x * 0.0f;
    return x / y;
}
EMU_DEVICE float fdividef(float x, float y) { return x / y; } /* the fast one only with --use_fast_math */

EMU_DEVICE float __fadd_rn(float x, float y) { return x + y; }
EMU_DEVICE float __fsub_rn(float x, float y) { return x - y; }
EMU_DEVICE float __fmul_rn(float x, float y) { return x * y; }
EMU_DEVICE float __fdiv_rn(float x, float y) { return x / y; }
EMU_DEVICE float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
EMU_DEVICE float __frcp_rn(float x) { return 1.0f / x; }
EMU_DEVICE float __fsqrt_rn(float x) { return sqrtf(x); }
EMU_DEVICE float __frsqrt_rn(float x) { return rsqrtf(x); }
EMU_DEVICE double __dadd_rn(double x, double y) { return x + y; }
EMU_DEVICE double __dmul_rn(double x, double y) { return x * y; }
EMU_DEVICE double __ddiv_rn(double x, double y) { return x / y; }
EMU_DEVICE double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
EMU_DEVICE double __drcp_rn(double x) { return 1.0 / x; }
EMU_DEVICE double __dsqrt_rn(double x) { return sqrt(x); }

/* [+0, 1], and +0 for NaN. */
EMU_DEVICE float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }

/* Conversions to integers: out of range saturates; NaN becomes 0 from float to at most 32 bits, else only the uppermost
 * bit is set (PTX: cvt). */
template <class I, class F> EMU_DEVICE I emu_integer(F x) {
    const I least = (I)-1 < (I)0 ? (I)((I)1 << (sizeof(I) * 8 - 1)) : (I)0, most = (I)~least;
    if (x != x) return sizeof(F) == 8 || sizeof(I) == 8 ? (I)((uint64_t)1 << (sizeof(I) * 8 - 1)) : (I)0;
    if (x <= (F)least) return least;
    return x >= (F)most ? most : (I)x;
}
#define EMU_ROUNDINGS(NAME, I, F)                                                                                      \
    EMU_DEVICE I NAME##_rn(F x) { return emu_integer<I, F>(__builtin_elementwise_roundeven(x)); }                      \
    EMU_DEVICE I NAME##_rz(F x) { return emu_integer<I, F>(x); }                                                       \
    EMU_DEVICE I NAME##_ru(F x) { return emu_integer<I, F>(ceil(x)); }                                                 \
    EMU_DEVICE I NAME##_rd(F x) { return emu_integer<I, F>(floor(x)); }
EMU_ROUNDINGS(__float2int, int, float)
EMU_ROUNDINGS(__float2uint, unsigned int, float)
EMU_ROUNDINGS(__float2ll, long long, float)
EMU_ROUNDINGS(__float2ull, unsigned long long, float)
EMU_ROUNDINGS(__double2int, int, double)
EMU_ROUNDINGS(__double2uint, unsigned int, double)
EMU_ROUNDINGS(__double2ll, long long, double)
EMU_ROUNDINGS(__double2ull, unsigned long long, double)
#undef EMU_ROUNDINGS
EMU_DEVICE float __int2float_rn(int x) { return (float)x; }
EMU_DEVICE float __uint2float_rn(unsigned int x) { return (float)x; }
EMU_DEVICE float __ll2float_rn(long long x) { return (float)x; }
EMU_DEVICE float __ull2float_rn(unsigned long long x) { return (float)x; }
EMU_DEVICE double __int2double_rn(int x) { return (double)x; }
EMU_DEVICE double __uint2double_rn(unsigned int x) { return (double)x; }
EMU_DEVICE float __double2float_rn(double x) { return (float)x; }

#endif
