/* __nv_bfloat16: the upper half of a float. Every operation is rounded once, to nearest, ties to even. */
#ifndef EDGEPACK_EMULATION_DEVICE_BFLOAT16_H
#define EDGEPACK_EMULATION_DEVICE_BFLOAT16_H

#include "half_math.h"

EMU_DEVICE uint16_t emu_bfloat16_bits(float x) {
    uint32_t bits = emu_bits<uint32_t>(x);
    if (x != x) return 0x7fff;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
/* A double as a float whose last bit says whether anything was cut off: it rounds to bfloat16 as the double would. */
EMU_DEVICE float emu_round_to_odd(double x) {
    float near = (float)x;
    if ((double)near == x || x != x) return near;
    uint32_t bits = emu_bits<uint32_t>(near);
    if (fabs((double)near) > fabs(x)) bits--;
    return emu_bits<float>(bits | 1);
}

struct __nv_bfloat16 {
    uint16_t bits;
    __nv_bfloat16() = default;
    __nv_bfloat16(const __nv_bfloat16 &) = default;
    __nv_bfloat16 &operator=(const __nv_bfloat16 &) = default;
    inline __attribute__((always_inline)) __nv_bfloat16(float x) : bits(emu_bfloat16_bits(x)) {}
#define EMU_FROM(T)                                                                                                    \
    inline __attribute__((always_inline)) __nv_bfloat16(T x) : bits(emu_bfloat16_bits(emu_round_to_odd((double)x))) {}
    EMU_FROM(double)
    EMU_FROM(short)
    EMU_FROM(unsigned short)
    EMU_FROM(int)
    EMU_FROM(unsigned int)
    EMU_FROM(long)
    EMU_FROM(unsigned long)
    EMU_FROM(long long)
    EMU_FROM(unsigned long long)
#undef EMU_FROM
    inline __attribute__((always_inline)) explicit __nv_bfloat16(half x) : bits(emu_bfloat16_bits((float)x)) {}
    inline __attribute__((always_inline)) operator float() const { return emu_bits<float>((uint32_t)bits << 16); }
    template <class T, class = typename cuda::std::enable_if<cuda::std::is_same_v<T, volatile __nv_bfloat16>>::type>
    inline __attribute__((always_inline)) __nv_bfloat16(T &other) : bits(other.bits) {}
    template <class T, class = typename cuda::std::enable_if<cuda::std::is_same_v<T, __nv_bfloat16>>::type>
    inline __attribute__((always_inline)) void operator=(const T &other) volatile { bits = other.bits; }
    inline __attribute__((always_inline)) operator float() const volatile {
        return emu_bits<float>((uint32_t)bits << 16);
    }
};
typedef __nv_bfloat16 nv_bfloat16;
static_assert(sizeof(nv_bfloat16) == 2 && __is_trivially_copyable(nv_bfloat16), "bfloat16 is its 16 bits");

struct alignas(4) __nv_bfloat162 {
    nv_bfloat16 x, y;
    __nv_bfloat162() = default;
    inline __nv_bfloat162(nv_bfloat16 x, nv_bfloat16 y) : x(x), y(y) {}
};
typedef __nv_bfloat162 nv_bfloat162;
EMU_DEVICE nv_bfloat162 make_bfloat162(nv_bfloat16 x, nv_bfloat16 y) { return {x, y}; }

#define EMU_OPERATORS(SYMBOL)                                                                                          \
    EMU_DEVICE nv_bfloat16 operator SYMBOL(nv_bfloat16 a, nv_bfloat16 b) {                                             \
        return nv_bfloat16((float)a SYMBOL(float) b);                                                                  \
    }                                                                                                                  \
    EMU_DEVICE nv_bfloat16 &operator SYMBOL##=(nv_bfloat16 &a, nv_bfloat16 b) { return a = a SYMBOL b; }               \
    EMU_DEVICE nv_bfloat162 operator SYMBOL(nv_bfloat162 a, nv_bfloat162 b) {                                          \
        return {a.x SYMBOL b.x, a.y SYMBOL b.y};                                                                       \
    }                                                                                                                  \
    EMU_DEVICE nv_bfloat162 &operator SYMBOL##=(nv_bfloat162 &a, nv_bfloat162 b) { return a = a SYMBOL b; }
EMU_OPERATORS(+)
EMU_OPERATORS(-)
EMU_OPERATORS(*)
EMU_OPERATORS(/)
#undef EMU_OPERATORS
#define EMU_ORDERS(NAME, SYMBOL)                                                                                       \
    EMU_DEVICE bool operator SYMBOL(nv_bfloat16 a, nv_bfloat16 b) { return (float)a SYMBOL(float) b; }                 \
    EMU_DEVICE bool __h##NAME(nv_bfloat16 a, nv_bfloat16 b) {                                                          \
        return (float)a SYMBOL(float) b && (float)a == (float)a && (float)b == (float)b;                               \
    }                                                                                                                  \
    EMU_DEVICE bool __h##NAME##u(nv_bfloat16 a, nv_bfloat16 b) {                                                       \
        return (float)a SYMBOL(float) b || (float)a != (float)a || (float)b != (float)b;                               \
    }
EMU_ORDERS(eq, ==)
EMU_ORDERS(ne, !=)
EMU_ORDERS(lt, <)
EMU_ORDERS(le, <=)
EMU_ORDERS(gt, >)
EMU_ORDERS(ge, >=)
#undef EMU_ORDERS

EMU_DEVICE unsigned short __bfloat16_as_ushort(nv_bfloat16 x) { return x.bits; }
EMU_DEVICE short __bfloat16_as_short(nv_bfloat16 x) { return (short)x.bits; }
EMU_DEVICE nv_bfloat16 __ushort_as_bfloat16(unsigned short x) { return emu_bits<nv_bfloat16>(x); }
EMU_DEVICE nv_bfloat16 __short_as_bfloat16(short x) { return emu_bits<nv_bfloat16>(x); }
EMU_DEVICE nv_bfloat16 operator-(nv_bfloat16 a) { return __ushort_as_bfloat16((uint16_t)(a.bits ^ 0x8000)); }
EMU_DEVICE nv_bfloat16 operator+(nv_bfloat16 a) { return a; }

EMU_DEVICE nv_bfloat16 __float2bfloat16(float x) { return nv_bfloat16(x); }
EMU_DEVICE nv_bfloat16 __float2bfloat16_rn(float x) { return nv_bfloat16(x); }
EMU_DEVICE nv_bfloat16 __double2bfloat16(double x) { return nv_bfloat16(x); }
EMU_DEVICE float __bfloat162float(nv_bfloat16 x) { return (float)x; }
EMU_DEVICE int __bfloat162int_rz(nv_bfloat16 x) { return emu_integer<int, float>((float)x); }
EMU_DEVICE int __bfloat162int_rn(nv_bfloat16 x) { return emu_integer<int, float>(rintf((float)x)); }
EMU_DEVICE nv_bfloat16 __int2bfloat16_rn(int x) { return nv_bfloat16(x); }
EMU_DEVICE nv_bfloat162 __halves2bfloat162(nv_bfloat16 x, nv_bfloat16 y) { return {x, y}; }
EMU_DEVICE nv_bfloat162 __bfloat162bfloat162(nv_bfloat16 x) { return {x, x}; }
EMU_DEVICE nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {nv_bfloat16(x), nv_bfloat16(y)}; }
EMU_DEVICE nv_bfloat162 __float22bfloat162_rn(float2 x) { return {nv_bfloat16(x.x), nv_bfloat16(x.y)}; }
EMU_DEVICE float2 __bfloat1622float2(nv_bfloat162 x) { return {(float)x.x, (float)x.y}; }
EMU_DEVICE float __low2float(nv_bfloat162 x) { return (float)x.x; }
EMU_DEVICE float __high2float(nv_bfloat162 x) { return (float)x.y; }
EMU_DEVICE nv_bfloat16 __low2bfloat16(nv_bfloat162 x) { return x.x; }
EMU_DEVICE nv_bfloat16 __high2bfloat16(nv_bfloat162 x) { return x.y; }

EMU_DEVICE bool __hisnan(nv_bfloat16 x) { return (x.bits & 0x7fff) > 0x7f80; }
EMU_DEVICE int __hisinf(nv_bfloat16 x) { return (x.bits & 0x7fff) == 0x7f80 ? (x.bits & 0x8000 ? -1 : 1) : 0; }
EMU_DEVICE nv_bfloat16 __hadd(nv_bfloat16 a, nv_bfloat16 b) { return a + b; }
EMU_DEVICE nv_bfloat16 __hsub(nv_bfloat16 a, nv_bfloat16 b) { return a - b; }
EMU_DEVICE nv_bfloat16 __hmul(nv_bfloat16 a, nv_bfloat16 b) { return a * b; }
EMU_DEVICE nv_bfloat16 __hdiv(nv_bfloat16 a, nv_bfloat16 b) { return a / b; }
EMU_DEVICE nv_bfloat16 __hneg(nv_bfloat16 a) { return -a; }
EMU_DEVICE nv_bfloat16 __habs(nv_bfloat16 a) { return __ushort_as_bfloat16(a.bits & 0x7fff); }
/* The product is exact in double; what its sum cuts off is found by Knuth's two-sum and kept in the last bit. */
EMU_DEVICE nv_bfloat16 __hfma(nv_bfloat16 a, nv_bfloat16 b, nv_bfloat16 c) {
    double product = (double)(float)a * (double)(float)b, addend = (double)(float)c, sum = product + addend;
    double part = sum - product, rest = (product - (sum - part)) + (addend - part);
    if (rest != 0 && rest == rest) {
        uint64_t bits = emu_bits<uint64_t>(sum);
        if ((rest < 0) != (sum < 0)) bits--;
        sum = emu_bits<double>(bits | 1);
    }
    return nv_bfloat16(sum);
}
EMU_DEVICE nv_bfloat16 __hmax(nv_bfloat16 a, nv_bfloat16 b) { return nv_bfloat16(emu_max((float)a, (float)b)); }
EMU_DEVICE nv_bfloat16 __hmin(nv_bfloat16 a, nv_bfloat16 b) { return nv_bfloat16(emu_min((float)a, (float)b)); }
EMU_DEVICE nv_bfloat16 __hmax_nan(nv_bfloat16 a, nv_bfloat16 b) {
    return __hisnan(a) || __hisnan(b) ? __ushort_as_bfloat16(0x7fff) : __hmax(a, b);
}
EMU_DEVICE nv_bfloat16 __hmin_nan(nv_bfloat16 a, nv_bfloat16 b) {
    return __hisnan(a) || __hisnan(b) ? __ushort_as_bfloat16(0x7fff) : __hmin(a, b);
}

/* Computed in float and rounded once; a source of TVM adds hpow, htan, hatan and herf itself. */
#define EMU_UNARY(NAME, EXPRESSION)                                                                                    \
    EMU_DEVICE nv_bfloat16 h##NAME(nv_bfloat16 h) {                                                                    \
        float x = (float)h;                                                                                            \
        return nv_bfloat16(EXPRESSION);                                                                                \
    }
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
    EMU_DEVICE nv_bfloat162 __h##NAME##2(nv_bfloat162 a, nv_bfloat162 b) {                                             \
        return {__h##NAME(a.x, b.x), __h##NAME(a.y, b.y)};                                                             \
    }
EMU_PAIRS(add)
EMU_PAIRS(sub)
EMU_PAIRS(mul)
EMU_PAIRS(max)
EMU_PAIRS(min)
#undef EMU_PAIRS
EMU_DEVICE nv_bfloat162 __hfma2(nv_bfloat162 a, nv_bfloat162 b, nv_bfloat162 c) {
    return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}

#endif
