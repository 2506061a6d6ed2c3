/* CUDA's vector types, with its alignments (CUDA C++ Programming Guide, Built-in Vector Types).
 *
 * A vector of 1, 2 or 4 elements is loaded and stored by ONE access of its size, up to the 16 bytes of a GPU's widest
 * access, so that a misaligned address is seen where the GPU would fault. Vectors of 3 are three accesses, as there. */
#ifndef EDGEPACK_EMULATION_DEVICE_VECTORS_H
#define EDGEPACK_EMULATION_DEVICE_VECTORS_H

#include "language.h"

/* Copies `count` elements as one access, or as accesses of 16 bytes. */
template <class T, int count> struct emu_access {
    typedef T whole __attribute__((ext_vector_type(count), may_alias));
    EMU_DEVICE void copy(T *to, const T *from) { *(whole *)to = *(const whole *)from; }
};
template <class T, int count, bool wide> struct emu_vector_copy {
    EMU_DEVICE void run(T *to, const T *from) { emu_access<T, count>::copy(to, from); }
};
template <class T, int count> struct emu_vector_copy<T, count, true> {
    EMU_DEVICE void run(T *to, const T *from) {
        emu_access<T, count / 2>::copy(to, from);
        emu_access<T, count / 2>::copy(to + count / 2, from + count / 2);
    }
};

#define EMU_COPIES(NAME, T, COUNT)                                                                                     \
    NAME() = default;                                                                                                  \
    inline __attribute__((always_inline)) NAME(const NAME &other) {                                                    \
        emu_vector_copy<T, COUNT, (sizeof(T) * COUNT > 16)>::run(&x, &other.x);                                        \
    }                                                                                                                  \
    inline __attribute__((always_inline)) NAME &operator=(const NAME &other) {                                         \
        emu_vector_copy<T, COUNT, (sizeof(T) * COUNT > 16)>::run(&x, &other.x);                                        \
        return *this;                                                                                                  \
    }

#define EMU_VECTORS(NAME, T, ALIGN2, ALIGN4)                                                                           \
    struct NAME##1 {                                                                                                   \
        T x;                                                                                                           \
    };                                                                                                                 \
    struct alignas(ALIGN2) NAME##2 {                                                                                   \
        T x, y;                                                                                                        \
        EMU_COPIES(NAME##2, T, 2)                                                                                      \
        inline NAME##2(T x, T y) : x(x), y(y) {}                                                                       \
    };                                                                                                                 \
    struct NAME##3 {                                                                                                   \
        T x, y, z;                                                                                                     \
        NAME##3() = default;                                                                                           \
        inline NAME##3(T x, T y, T z) : x(x), y(y), z(z) {}                                                            \
    };                                                                                                                 \
    struct alignas(ALIGN4) NAME##4 {                                                                                   \
        T x, y, z, w;                                                                                                  \
        EMU_COPIES(NAME##4, T, 4)                                                                                      \
        inline NAME##4(T x, T y, T z, T w) : x(x), y(y), z(z), w(w) {}                                                 \
    };                                                                                                                 \
    EMU_DEVICE NAME##1 make_##NAME##1(T x) { return {x}; }                                                             \
    EMU_DEVICE NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }                                                     \
    EMU_DEVICE NAME##3 make_##NAME##3(T x, T y, T z) { return {x, y, z}; }                                             \
    EMU_DEVICE NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }

EMU_VECTORS(char, signed char, 2, 4)
EMU_VECTORS(uchar, unsigned char, 2, 4)
EMU_VECTORS(short, short, 4, 8)
EMU_VECTORS(ushort, unsigned short, 4, 8)
EMU_VECTORS(int, int, 8, 16)
EMU_VECTORS(uint, unsigned int, 8, 16)
EMU_VECTORS(long, long, 16, 16)
EMU_VECTORS(ulong, unsigned long, 16, 16)
EMU_VECTORS(longlong, long long, 16, 16)
EMU_VECTORS(ulonglong, unsigned long long, 16, 16)
EMU_VECTORS(float, float, 8, 16)
EMU_VECTORS(double, double, 16, 16)

#undef EMU_VECTORS

struct dim3 {
    unsigned int x, y, z;
    constexpr dim3(unsigned int x = 1, unsigned int y = 1, unsigned int z = 1) : x(x), y(y), z(z) {}
};

#endif
