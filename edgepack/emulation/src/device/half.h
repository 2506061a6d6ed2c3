/* half: IEEE binary16. Every operation is rounded once, to nearest, ties to even. */
#ifndef EDGEPACK_EMULATION_DEVICE_HALF_H
#define EDGEPACK_EMULATION_DEVICE_HALF_H

#include "integers.h"
#include "fastmath.h"

struct __half {
    _Float16 value;
    __half() = default;
    __half(const __half &) = default;
    __half &operator=(const __half &) = default;
#define EMU_FROM(T)                                                                                                    \
    inline __attribute__((always_inline)) __half(T x) : value((_Float16)x) {}
    EMU_FROM(_Float16)
    EMU_FROM(float)
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
    inline __attribute__((always_inline)) operator float() const { return (float)value; }

    /* Shared memory that is volatile; templates, so that half stays trivially copyable. */
    template <class T, class = typename cuda::std::enable_if<cuda::std::is_same_v<T, volatile __half>>::type>
    inline __attribute__((always_inline)) __half(T &other) : value(other.value) {}
    template <class T, class = typename cuda::std::enable_if<cuda::std::is_same_v<T, __half>>::type>
    inline __attribute__((always_inline)) void operator=(const T &other) volatile { value = other.value; }
    inline __attribute__((always_inline)) operator float() const volatile { return (float)value; }
};
typedef __half half;
static_assert(sizeof(half) == 2 && __is_trivially_copyable(half), "half is its 16 bits");

struct alignas(4) __half2 {
    half x, y;
    __half2() = default;
    inline __half2(half x, half y) : x(x), y(y) {}
};
typedef __half2 half2;
static_assert(__is_trivially_copyable(half2), "half2 is copied as 4 bytes");
EMU_DEVICE half2 make_half2(half x, half y) { return {x, y}; }

#define EMU_OPERATORS(T, SYMBOL)                                                                                       \
    EMU_DEVICE T operator SYMBOL(T a, T b) { return T((_Float16)(a.value SYMBOL b.value)); }                           \
    EMU_DEVICE T &operator SYMBOL##=(T &a, T b) { return a = a SYMBOL b; }
#define EMU_ORDERS(SYMBOL)                                                                                             \
    EMU_DEVICE bool operator SYMBOL(half a, half b) { return a.value SYMBOL b.value; }
EMU_OPERATORS(half, +)
EMU_OPERATORS(half, -)
EMU_OPERATORS(half, *)
EMU_OPERATORS(half, /)
EMU_ORDERS(==)
EMU_ORDERS(!=)
EMU_ORDERS(<)
EMU_ORDERS(<=)
EMU_ORDERS(>)
EMU_ORDERS(>=)
#undef EMU_OPERATORS
#undef EMU_ORDERS
EMU_DEVICE half operator+(half a) { return a; }
EMU_DEVICE half operator-(half a) { return emu_bits<half>((uint16_t)(emu_bits<uint16_t>(a) ^ 0x8000)); }
EMU_DEVICE half &operator++(half &a) { return a = a + half(1.0f); }
EMU_DEVICE half &operator--(half &a) { return a = a - half(1.0f); }
#define EMU_OPERATORS(SYMBOL)                                                                                          \
    EMU_DEVICE half2 operator SYMBOL(half2 a, half2 b) { return {a.x SYMBOL b.x, a.y SYMBOL b.y}; }                    \
    EMU_DEVICE half2 &operator SYMBOL##=(half2 &a, half2 b) { return a = a SYMBOL b; }
EMU_OPERATORS(+)
EMU_OPERATORS(-)
EMU_OPERATORS(*)
EMU_OPERATORS(/)
#undef EMU_OPERATORS
EMU_DEVICE half2 operator-(half2 a) { return {-a.x, -a.y}; }

/* Conversions. */
EMU_DEVICE half __float2half_rn(float x) { return half(x); }
EMU_DEVICE half __float2half(float x) { return half(x); }
EMU_DEVICE half __double2half(double x) { return half(x); }
EMU_DEVICE float __half2float(half x) { return (float)x; }
EMU_DEVICE unsigned short __half_as_ushort(half x) { return emu_bits<unsigned short>(x); }
EMU_DEVICE short __half_as_short(half x) { return emu_bits<short>(x); }
EMU_DEVICE half __ushort_as_half(unsigned short x) { return emu_bits<half>(x); }
EMU_DEVICE half __short_as_half(short x) { return emu_bits<half>(x); }
/* Toward zero, up and down: the neighbour of the nearest half if that lies on the wrong side. */
EMU_DEVICE half emu_half_step(half x, bool up) {
    short bits = emu_bits<short>(x);
    if ((bits & 0x7fff) == 0) return emu_bits<half>((uint16_t)(up ? 0x0001 : 0x8001));
    return emu_bits<half>((short)(bits + ((bits >= 0) == up ? 1 : -1)));
}
EMU_DEVICE half __float2half_ru(float x) {
    half nearest = half(x);
    return (float)nearest < x ? emu_half_step(nearest, true) : nearest;
}
EMU_DEVICE half __float2half_rd(float x) {
    half nearest = half(x);
    return (float)nearest > x ? emu_half_step(nearest, false) : nearest;
}
EMU_DEVICE half __float2half_rz(float x) { return x < 0.0f ? __float2half_ru(x) : __float2half_rd(x); }
#define EMU_CONVERSIONS(NAME, I)                                                                                       \
    EMU_DEVICE half __##NAME##2half_rn(I x) { return half(x); }                                                        \
    EMU_DEVICE I __half2##NAME##_rn(half x) { return emu_integer<I, float>(rintf((float)x)); }                         \
    EMU_DEVICE I __half2##NAME##_rz(half x) { return emu_integer<I, float>((float)x); }                                \
    EMU_DEVICE I __half2##NAME##_ru(half x) { return emu_integer<I, float>(ceilf((float)x)); }                         \
    EMU_DEVICE I __half2##NAME##_rd(half x) { return emu_integer<I, float>(floorf((float)x)); }
EMU_CONVERSIONS(short, short)
EMU_CONVERSIONS(ushort, unsigned short)
EMU_CONVERSIONS(int, int)
EMU_CONVERSIONS(uint, unsigned int)
EMU_CONVERSIONS(ll, long long)
EMU_CONVERSIONS(ull, unsigned long long)
#undef EMU_CONVERSIONS

EMU_DEVICE half2 __halves2half2(half x, half y) { return {x, y}; }
EMU_DEVICE half2 __half2half2(half x) { return {x, x}; }
EMU_DEVICE half2 __float2half2_rn(float x) { return {half(x), half(x)}; }
EMU_DEVICE half2 __floats2half2_rn(float x, float y) { return {half(x), half(y)}; }
EMU_DEVICE half2 __float22half2_rn(float2 x) { return {half(x.x), half(x.y)}; }
EMU_DEVICE float2 __half22float2(half2 x) { return {(float)x.x, (float)x.y}; }
EMU_DEVICE half __low2half(half2 x) { return x.x; }
EMU_DEVICE half __high2half(half2 x) { return x.y; }
EMU_DEVICE float __low2float(half2 x) { return (float)x.x; }
EMU_DEVICE float __high2float(half2 x) { return (float)x.y; }
EMU_DEVICE half2 __low2half2(half2 x) { return {x.x, x.x}; }
EMU_DEVICE half2 __high2half2(half2 x) { return {x.y, x.y}; }
EMU_DEVICE half2 __lowhigh2highlow(half2 x) { return {x.y, x.x}; }
EMU_DEVICE half2 __lows2half2(half2 x, half2 y) { return {x.x, y.x}; }
EMU_DEVICE half2 __highs2half2(half2 x, half2 y) { return {x.y, y.y}; }

#endif
