/* The functions of full precision: the C library's, CUDA's overloads for float, and CUDA's own.
 *
 * The GPU's are as exact or a little less (0 to 8 ulp, CUDA C++ Programming Guide, Mathematical Functions); those that
 * IEEE 754 rounds correctly (sqrt, fma, division, the conversions) are the same on both. */
#ifndef EDGEPACK_EMULATION_DEVICE_MATHEMATICS_H
#define EDGEPACK_EMULATION_DEVICE_MATHEMATICS_H

#include <math.h>
#include <stdlib.h>

#include "language.h"

/* CUDA's names that the C library declares too, for itself or with another meaning. */
#define rsqrt emu_rsqrt
#define rsqrtf emu_rsqrtf
#define sinpif emu_sinpif
#define cospif emu_cospif
#define __cosf emu_fast_cosf
#define __exp10f emu_fast_exp10f
#define __expf emu_fast_expf
#define __log10f emu_fast_log10f
#define __log2f emu_fast_log2f
#define __logf emu_fast_logf
#define __powf emu_fast_powf
#define __sincosf emu_fast_sincosf
#define __sinf emu_fast_sinf
#define __tanf emu_fast_tanf
#define __tanhf emu_fast_tanhf

#define CUDART_INF_F __builtin_inff()
#define CUDART_NAN_F __builtin_nanf("")
#define CUDART_INF __builtin_inf()
#define CUDART_NAN __builtin_nan("")
#define CUDART_ZERO_F 0.0f
#define CUDART_ONE_F 1.0f
#define CUDART_PI_F 3.141592654f
#define CUDART_L2E_F 1.442695041f
#define CUDART_LN2_F 0.693147181f
#define CUDART_PI 3.1415926535897931e+0
#define CUDART_L2E 1.4426950408889634e+0
#define CUDART_LN2 6.9314718055994529e-1

#define EMU_FLOAT(NAME)                                                                                                \
    EMU_DEVICE float NAME(float x) { return NAME##f(x); }
#define EMU_FLOAT2(NAME)                                                                                               \
    EMU_DEVICE float NAME(float x, float y) { return NAME##f(x, y); }
EMU_FLOAT(acos)
EMU_FLOAT(acosh)
EMU_FLOAT(asin)
EMU_FLOAT(asinh)
EMU_FLOAT(atan)
EMU_FLOAT(atanh)
EMU_FLOAT(cbrt)
EMU_FLOAT(ceil)
EMU_FLOAT(cos)
EMU_FLOAT(cosh)
EMU_FLOAT(erf)
EMU_FLOAT(erfc)
EMU_FLOAT(exp)
EMU_FLOAT(exp2)
EMU_FLOAT(expm1)
EMU_FLOAT(fabs)
EMU_FLOAT(floor)
EMU_FLOAT(lgamma)
EMU_FLOAT(log)
EMU_FLOAT(log10)
EMU_FLOAT(log1p)
EMU_FLOAT(log2)
EMU_FLOAT(nearbyint)
EMU_FLOAT(rint)
EMU_FLOAT(round)
EMU_FLOAT(sin)
EMU_FLOAT(sinh)
EMU_FLOAT(sqrt)
EMU_FLOAT(tan)
EMU_FLOAT(tanh)
EMU_FLOAT(tgamma)
EMU_FLOAT(trunc)
EMU_FLOAT2(atan2)
EMU_FLOAT2(copysign)
EMU_FLOAT2(fdim)
EMU_FLOAT2(fmod)
EMU_FLOAT2(hypot)
EMU_FLOAT2(nextafter)
EMU_FLOAT2(pow)
EMU_FLOAT2(remainder)
#undef EMU_FLOAT
#undef EMU_FLOAT2
EMU_DEVICE float fma(float x, float y, float z) { return fmaf(x, y, z); }
EMU_DEVICE float abs(float x) { return fabsf(x); }
EMU_DEVICE double abs(double x) { return fabs(x); }
EMU_DEVICE long abs(long x) { return labs(x); }
EMU_DEVICE long long abs(long long x) { return llabs(x); }

/* PTX's rsqrt.approx.f32, which rsqrtf uses, errs by 2 ulp at most: here it is rounded once. */
EMU_DEVICE float rsqrtf(float x) { return (float)(1.0 / sqrt((double)x)); }
EMU_DEVICE double rsqrt(double x) { return 1.0 / sqrt(x); }
EMU_DEVICE float rcbrtf(float x) { return (float)(1.0 / cbrt((double)x)); }
EMU_DEVICE float normcdff(float x) { return (float)(0.5 * erfc(-0.70710678118654752440 * (double)x)); }
EMU_DEVICE float sinpif(float x) { return (float)sin(3.14159265358979323846 * remainder((double)x, 2.0)); }
EMU_DEVICE float cospif(float x) { return (float)cos(3.14159265358979323846 * remainder((double)x, 2.0)); }

/* min and max of floats: a NaN gives way to the other number, and -0 is less than +0 (PTX: min, max). */
template <class T> EMU_DEVICE T emu_max(T a, T b) {
    if (a != a) return b;
    if (a == b) return __builtin_signbit(a) ? b : a;
    return a < b ? b : a;
}
template <class T> EMU_DEVICE T emu_min(T a, T b) {
    if (a != a) return b;
    if (a == b) return __builtin_signbit(a) ? a : b;
    return b < a ? b : a;
}
#define fmaxf(a, b) emu_max<float>(a, b)
#define fminf(a, b) emu_min<float>(a, b)
#define fmax(a, b) emu_max<double>(a, b)
#define fmin(a, b) emu_min<double>(a, b)
EMU_DEVICE float max(float a, float b) { return emu_max(a, b); }
EMU_DEVICE float min(float a, float b) { return emu_min(a, b); }
EMU_DEVICE double max(double a, double b) { return emu_max(a, b); }
EMU_DEVICE double min(double a, double b) { return emu_min(a, b); }
EMU_DEVICE double max(float a, double b) { return emu_max<double>(a, b); }
EMU_DEVICE double min(float a, double b) { return emu_min<double>(a, b); }
EMU_DEVICE double max(double a, float b) { return emu_max<double>(a, b); }
EMU_DEVICE double min(double a, float b) { return emu_min<double>(a, b); }

#define EMU_INTEGER_ORDER(R, A, B)                                                                                     \
    EMU_DEVICE R max(A a, B b) { return (R)a < (R)b ? (R)b : (R)a; }                                                   \
    EMU_DEVICE R min(A a, B b) { return (R)b < (R)a ? (R)b : (R)a; }
EMU_INTEGER_ORDER(int, int, int)
EMU_INTEGER_ORDER(unsigned int, unsigned int, unsigned int)
EMU_INTEGER_ORDER(unsigned int, int, unsigned int)
EMU_INTEGER_ORDER(unsigned int, unsigned int, int)
EMU_INTEGER_ORDER(long, long, long)
EMU_INTEGER_ORDER(unsigned long, unsigned long, unsigned long)
EMU_INTEGER_ORDER(unsigned long, long, unsigned long)
EMU_INTEGER_ORDER(unsigned long, unsigned long, long)
EMU_INTEGER_ORDER(long long, long long, long long)
EMU_INTEGER_ORDER(unsigned long long, unsigned long long, unsigned long long)
EMU_INTEGER_ORDER(unsigned long long, long long, unsigned long long)
EMU_INTEGER_ORDER(unsigned long long, unsigned long long, long long)
#undef EMU_INTEGER_ORDER
EMU_DEVICE unsigned int umax(unsigned int a, unsigned int b) { return max(a, b); }
EMU_DEVICE unsigned int umin(unsigned int a, unsigned int b) { return min(a, b); }
EMU_DEVICE long long llmax(long long a, long long b) { return max(a, b); }
EMU_DEVICE long long llmin(long long a, long long b) { return min(a, b); }

#endif
