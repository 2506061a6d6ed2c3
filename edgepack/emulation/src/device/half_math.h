/* The functions of half and half2 (CUDA Math API, Half Precision Intrinsics). */
#ifndef EDGEPACK_EMULATION_DEVICE_HALF_MATH_H
#define EDGEPACK_EMULATION_DEVICE_HALF_MATH_H

#include "half.h"

EMU_DEVICE bool __hisnan(half x) { return x.value != x.value; }
EMU_DEVICE int __hisinf(half x) { return (emu_bits<uint16_t>(x) & 0x7fff) == 0x7c00 ? ((float)x > 0 ? 1 : -1) : 0; }
EMU_DEVICE half emu_half_nan(void) { return __ushort_as_half(0x7fff); }

EMU_DEVICE half __hadd(half a, half b) { return a + b; }
EMU_DEVICE half __hsub(half a, half b) { return a - b; }
EMU_DEVICE half __hmul(half a, half b) { return a * b; }
EMU_DEVICE half __hdiv(half a, half b) { return a / b; }
EMU_DEVICE half __hadd_rn(half a, half b) { return a + b; }
EMU_DEVICE half __hsub_rn(half a, half b) { return a - b; }
EMU_DEVICE half __hmul_rn(half a, half b) { return a * b; }
EMU_DEVICE half __hneg(half a) { return -a; }
EMU_DEVICE half __habs(half a) { return __ushort_as_half(__half_as_ushort(a) & 0x7fff); }
/* The product is exact in double, and so is the sum wherever it decides the rounding to half. */
EMU_DEVICE half __hfma(half a, half b, half c) { return half((double)a.value * (double)b.value + (double)c.value); }
EMU_DEVICE half emu_saturate(half x) { return half(__saturatef((float)x)); }
EMU_DEVICE half __hadd_sat(half a, half b) { return emu_saturate(a + b); }
EMU_DEVICE half __hsub_sat(half a, half b) { return emu_saturate(a - b); }
EMU_DEVICE half __hmul_sat(half a, half b) { return emu_saturate(a * b); }
EMU_DEVICE half __hfma_sat(half a, half b, half c) { return emu_saturate(__hfma(a, b, c)); }
EMU_DEVICE half __hfma_relu(half a, half b, half c) {
    half x = __hfma(a, b, c);
    return __hisnan(x) ? emu_half_nan() : x.value > 0 ? x : half(0.0f);
}

/* Ordered comparisons are false for NaN, those that end in u are true. */
#define EMU_COMPARISONS(NAME, SYMBOL)                                                                                  \
    EMU_DEVICE bool __h##NAME(half a, half b) { return a.value SYMBOL b.value && !__hisnan(a) && !__hisnan(b); }       \
    EMU_DEVICE bool __h##NAME##u(half a, half b) { return a.value SYMBOL b.value || __hisnan(a) || __hisnan(b); }      \
    EMU_DEVICE half2 __h##NAME##2(half2 a, half2 b) {                                                                  \
        return {half(__h##NAME(a.x, b.x) ? 1.0f : 0.0f), half(__h##NAME(a.y, b.y) ? 1.0f : 0.0f)};                     \
    }
EMU_COMPARISONS(eq, ==)
EMU_COMPARISONS(ne, !=)
EMU_COMPARISONS(lt, <)
EMU_COMPARISONS(le, <=)
EMU_COMPARISONS(gt, >)
EMU_COMPARISONS(ge, >=)
#undef EMU_COMPARISONS

/* A NaN gives way to the other number (in _nan it wins); -0 is less than +0. */
EMU_DEVICE half __hmax(half a, half b) {
    return __hisnan(a) && __hisnan(b) ? emu_half_nan() : half(emu_max((float)a, (float)b));
}
EMU_DEVICE half __hmin(half a, half b) {
    return __hisnan(a) && __hisnan(b) ? emu_half_nan() : half(emu_min((float)a, (float)b));
}
EMU_DEVICE half __hmax_nan(half a, half b) { return __hisnan(a) || __hisnan(b) ? emu_half_nan() : __hmax(a, b); }
EMU_DEVICE half __hmin_nan(half a, half b) { return __hisnan(a) || __hisnan(b) ? emu_half_nan() : __hmin(a, b); }

/* Computed in float and rounded once. The names of CUDA; a source of TVM adds hpow, htan, hatan and herf itself. */
#define EMU_UNARY(NAME, EXPRESSION)                                                                                    \
    EMU_DEVICE half h##NAME(half h) {                                                                                  \
        float x = (float)h;                                                                                            \
        return half(EXPRESSION);                                                                                       \
    }                                                                                                                  \
    EMU_DEVICE half2 h2##NAME(half2 a) { return {h##NAME(a.x), h##NAME(a.y)}; }
EMU_UNARY(exp, expf(x))
EMU_UNARY(exp2, exp2f(x))
EMU_UNARY(exp10, exp2(3.32192809488736234787 * (double)x))
EMU_UNARY(log, logf(x))
EMU_UNARY(log2, log2f(x))
EMU_UNARY(log10, log10f(x))
EMU_UNARY(sqrt, sqrtf(x))
EMU_UNARY(rsqrt, rsqrtf(x))
EMU_UNARY(rcp, 1.0f / x)
EMU_UNARY(sin, sinf(x))
EMU_UNARY(cos, cosf(x))
EMU_UNARY(tanh, tanhf(x))
EMU_UNARY(floor, floorf(x))
EMU_UNARY(ceil, ceilf(x))
EMU_UNARY(trunc, truncf(x))
EMU_UNARY(rint, rintf(x))
#undef EMU_UNARY

#define EMU_PAIRS(NAME)                                                                                                \
    EMU_DEVICE half2 __h##NAME##2(half2 a, half2 b) { return {__h##NAME(a.x, b.x), __h##NAME(a.y, b.y)}; }
EMU_PAIRS(add)
EMU_PAIRS(sub)
EMU_PAIRS(mul)
EMU_PAIRS(max)
EMU_PAIRS(min)
#undef EMU_PAIRS
EMU_DEVICE half2 __h2div(half2 a, half2 b) { return a / b; }
EMU_DEVICE half2 __hneg2(half2 a) { return -a; }
EMU_DEVICE half2 __habs2(half2 a) { return {__habs(a.x), __habs(a.y)}; }
EMU_DEVICE half2 __hfma2(half2 a, half2 b, half2 c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; }

#endif
