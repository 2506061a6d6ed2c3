/* Integer intrinsics, conversions between numbers, and loads and stores with a cache hint. */
#ifndef EDGEPACK_EMULATION_DEVICE_INTEGERS_H
#define EDGEPACK_EMULATION_DEVICE_INTEGERS_H

#include "language.h"
#include "vectors.h"

/* Products of four bytes, summed in 32 bits that wrap (PTX: dp4a). */
template <class A, class B> EMU_DEVICE int emu_dp4a(uint32_t a, uint32_t b, uint32_t c) {
    for (int i = 0; i < 4; i++) c += (uint32_t)((int)(A)(a >> 8 * i) * (int)(B)(b >> 8 * i));
    return (int)c;
}
EMU_DEVICE int __dp4a(int a, int b, int c) { return emu_dp4a<int8_t, int8_t>((uint)a, (uint)b, (uint)c); }
EMU_DEVICE int __dp4a(unsigned int a, int b, int c) { return emu_dp4a<uint8_t, int8_t>(a, (uint)b, (uint)c); }
EMU_DEVICE int __dp4a(int a, unsigned int b, int c) { return emu_dp4a<int8_t, uint8_t>((uint)a, b, (uint)c); }
EMU_DEVICE unsigned int __dp4a(unsigned int a, unsigned int b, unsigned int c) {
    return (uint)emu_dp4a<uint8_t, uint8_t>(a, b, c);
}
EMU_DEVICE int __dp4a(char4 a, char4 b, int c) { return c + a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w; }
EMU_DEVICE unsigned int __dp4a(uchar4 a, uchar4 b, unsigned int c) {
    return c + (uint)(a.x * b.x) + (uint)(a.y * b.y) + (uint)(a.z * b.z) + (uint)(a.w * b.w);
}

/* Two 16-bit values of `a` times the lower or upper two bytes of `b` (PTX: dp2a). */
template <class A, class B> EMU_DEVICE int emu_dp2a(uint32_t a, uint32_t b, uint32_t c) {
    for (int i = 0; i < 2; i++) c += (uint32_t)((int)(A)(a >> 16 * i) * (int)(B)(b >> 8 * i));
    return (int)c;
}
EMU_DEVICE int __dp2a_lo(int a, int b, int c) { return emu_dp2a<int16_t, int8_t>((uint)a, (uint)b, (uint)c); }
EMU_DEVICE int __dp2a_hi(int a, int b, int c) { return emu_dp2a<int16_t, int8_t>((uint)a, (uint)b >> 16, (uint)c); }
EMU_DEVICE uint __dp2a_lo(uint a, uint b, uint c) { return (uint)emu_dp2a<uint16_t, uint8_t>(a, b, c); }
EMU_DEVICE uint __dp2a_hi(uint a, uint b, uint c) { return (uint)emu_dp2a<uint16_t, uint8_t>(a, b >> 16, c); }

EMU_DEVICE int __popc(unsigned int x) { return __builtin_popcount(x); }
EMU_DEVICE int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
EMU_DEVICE int __clz(int x) { return x ? __builtin_clz((uint)x) : 32; }
EMU_DEVICE int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
EMU_DEVICE int __ffs(int x) { return __builtin_ffs(x); }
EMU_DEVICE int __ffsll(long long x) { return __builtin_ffsll(x); }
EMU_DEVICE unsigned int __brev(unsigned int x) { return __builtin_bitreverse32(x); }
EMU_DEVICE unsigned long long __brevll(unsigned long long x) { return __builtin_bitreverse64(x); }

/* The four bytes that the four selectors of `s` name in y:x (PTX: prmt, in its default mode with sign replication). */
EMU_DEVICE unsigned int emu_prmt(unsigned int x, unsigned int y, unsigned int s) {
    unsigned int result = 0;
    for (int i = 0; i < 4; i++) {
        unsigned int selector = s >> 4 * i & 15;
        unsigned int byte = (unsigned int)(((unsigned long long)y << 32 | x) >> 8 * (selector & 7)) & 255;
        if (selector & 8) byte = byte & 128 ? 255 : 0;
        result |= byte << 8 * i;
    }
    return result;
}
/* As documented, __byte_perm looks at three bits of each selector only. */
EMU_DEVICE unsigned int __byte_perm(unsigned int x, unsigned int y, unsigned int s) {
    return emu_prmt(x, y, s & 0x7777);
}
EMU_DEVICE unsigned int __funnelshift_l(unsigned int lo, unsigned int hi, unsigned int shift) {
    return (unsigned int)((((unsigned long long)hi << 32 | lo) << (shift & 31)) >> 32);
}
EMU_DEVICE unsigned int __funnelshift_r(unsigned int lo, unsigned int hi, unsigned int shift) {
    return (unsigned int)(((unsigned long long)hi << 32 | lo) >> (shift & 31));
}

EMU_DEVICE int __mul24(int x, int y) { return (int)((uint)(x << 8 >> 8) * (uint)(y << 8 >> 8)); }
EMU_DEVICE unsigned int __umul24(unsigned int x, unsigned int y) { return (x & 0xffffff) * (y & 0xffffff); }
EMU_DEVICE int __mulhi(int x, int y) { return (int)((long long)x * y >> 32); }
EMU_DEVICE unsigned int __umulhi(unsigned int x, unsigned int y) {
    return (unsigned int)((unsigned long long)x * y >> 32);
}
EMU_DEVICE long long __mul64hi(long long x, long long y) { return (long long)((__int128)x * y >> 64); }
EMU_DEVICE unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
    return (unsigned long long)((unsigned __int128)x * y >> 64);
}
EMU_DEVICE unsigned int __sad(int x, int y, unsigned int z) {
    return z + (x < y ? (uint)y - (uint)x : (uint)x - (uint)y);
}
EMU_DEVICE unsigned int __usad(unsigned int x, unsigned int y, unsigned int z) { return z + (x < y ? y - x : x - y); }
EMU_DEVICE int __hadd(int x, int y) { return (int)(((long long)x + y) >> 1); }
EMU_DEVICE int __rhadd(int x, int y) { return (int)(((long long)x + y + 1) >> 1); }
EMU_DEVICE unsigned int __uhadd(unsigned int x, unsigned int y) { return (uint)(((unsigned long long)x + y) >> 1); }
EMU_DEVICE unsigned int __urhadd(unsigned int x, unsigned int y) {
    return (uint)(((unsigned long long)x + y + 1) >> 1);
}

EMU_DEVICE int __float_as_int(float x) { return emu_bits<int>(x); }
EMU_DEVICE unsigned int __float_as_uint(float x) { return emu_bits<uint>(x); }
EMU_DEVICE float __int_as_float(int x) { return emu_bits<float>(x); }
EMU_DEVICE float __uint_as_float(unsigned int x) { return emu_bits<float>(x); }
EMU_DEVICE long long __double_as_longlong(double x) { return emu_bits<long long>(x); }
EMU_DEVICE double __longlong_as_double(long long x) { return emu_bits<double>(x); }

/* The cache hint says nothing about the value. */
#define EMU_LOAD(NAME) template <class T> EMU_DEVICE T NAME(const T *from) { return *from; }
#define EMU_STORE(NAME) template <class T> EMU_DEVICE void NAME(T *to, T value) { *to = value; }
EMU_LOAD(__ldg)
EMU_LOAD(__ldcg)
EMU_LOAD(__ldca)
EMU_LOAD(__ldcs)
EMU_LOAD(__ldlu)
EMU_LOAD(__ldcv)
EMU_STORE(__stwb)
EMU_STORE(__stcg)
EMU_STORE(__stcs)
EMU_STORE(__stwt)
#undef EMU_LOAD
#undef EMU_STORE

EMU_DEVICE void __nanosleep(unsigned int) {}

#endif
