/* PTX's mma.sync: D = A B + C, with the layout of registers that the PTX ISA documents (Matrix fragments for mma).
 *
 * A register has `each` = 32 / bits elements. Register r of A has row lane / 4 + 8 (r % (M / 8)) and columns from
 * 4 each (r / (M / 8)) + each (lane % 4); register r of B has column lane / 4 and rows from 4 each r + each (lane % 4);
 * elements 2 r and 2 r + 1 of C and D have row lane / 4 + 8 r and columns 2 (lane % 4) and the next.
 * Products are summed in float, in the order of k; integers exactly. */
#ifndef EDGEPACK_EMULATION_DEVICE_PTX_MMA_H
#define EDGEPACK_EMULATION_DEVICE_PTX_MMA_H

#include "warp.h"

/* The element `i` of a register. */
struct emu_f16 {
    typedef float sum;
    static constexpr int each = 2;
    EMU_DEVICE float at(uint32_t word, uint32_t i) { return (float)emu_bits<half>((uint16_t)(word >> 16 * i)); }
};
struct emu_bf16 {
    typedef float sum;
    static constexpr int each = 2;
    EMU_DEVICE float at(uint32_t word, uint32_t i) { return emu_bits<float>(word >> 16 * i << 16); }
};
struct emu_tf32 { /* the lower 13 bits of the float are not looked at */
    typedef float sum;
    static constexpr int each = 1;
    EMU_DEVICE float at(uint32_t word, uint32_t) { return emu_bits<float>(word & 0xffffe000); }
};
struct emu_s8 {
    typedef long long sum;
    static constexpr int each = 4;
    EMU_DEVICE long long at(uint32_t word, uint32_t i) { return (int8_t)(word >> 8 * i); }
};
struct emu_u8 {
    typedef long long sum;
    static constexpr int each = 4;
    EMU_DEVICE long long at(uint32_t word, uint32_t i) { return (uint8_t)(word >> 8 * i); }
};

struct emu_registers {
    const uint32_t *a, *b;
};

/* Adds the products to this lane's elements of C. */
template <int M, int K, class A, class B>
EMU_DRIVER void emu_mma(typename A::sum (&c)[M / 4], const uint32_t *a, const uint32_t *b, int site) {
    constexpr uint32_t each = A::each;
    static_assert(A::each == B::each, "mma: both matrices have elements of the same size");
    uint32_t lane = emu_own_lane();
    if (emu_active_lanes() != 0xffffffffu) emu_fault("mma.sync needs all 32 lanes of the warp");
    *(emu_registers *)emu_lane(lane) = {a, b};
    emu_warp_barrier(0xffffffffu, site);
    for (uint32_t i = 0; i < M / 4; i++) {
        uint32_t row = lane / 4, above = i / 2, column = lane % 4 * 2 + i % 2;
        for (uint32_t k = 0; k < K; k++) {
            uint32_t part = k % (4 * each) / each, block = k / (4 * each);
            const emu_registers *left = (const emu_registers *)emu_lane(row * 4 + part);
            const emu_registers *right = (const emu_registers *)emu_lane(column * 4 + part);
            c[i] += A::at(left->a[block * (M / 8) + above], k % each) * B::at(right->b[block], k % each);
        }
    }
    emu_warp_barrier(0xffffffffu, site);
}

/* C and D as registers of float, of int, or of two halves. */
template <int M, int K, class A, class B, bool saturate, class D>
EMU_DEVICE void emu_mma_words(D *const *d, const uint32_t *a, const uint32_t *b, const uint32_t *c, int count, int site) {
    typename A::sum sums[M / 4];
    if constexpr (cuda::std::is_same_v<typename A::sum, float>) {
        bool halves = count == M / 8;
        for (int i = 0; i < M / 4; i++)
            sums[i] = halves ? emu_f16::at(c[i / 2], i % 2) : emu_bits<float>(c[i]);
        emu_mma<M, K, A, B>(sums, a, b, site);
        for (int i = 0; i < count; i++)
            *d[i] = emu_bits<D>(halves ? (uint32_t)__half_as_ushort(half(sums[2 * i + 1])) << 16 |
                                             __half_as_ushort(half(sums[2 * i]))
                                       : emu_bits<uint32_t>(sums[i]));
    } else {
        for (int i = 0; i < M / 4; i++) sums[i] = (int)c[i];
        emu_mma<M, K, A, B>(sums, a, b, site);
        for (int i = 0; i < count; i++) {
            long long x = sums[i];
            if (saturate) x = x < INT32_MIN ? INT32_MIN : x > INT32_MAX ? INT32_MAX : x;
            *d[i] = emu_bits<D>((uint32_t)x);
        }
    }
}

/* The operands of an instruction: `outs` references, then the registers of A, B and C. */
template <int M, int K, class A, class B, bool saturate, int outs, class D, class... In>
EMU_DEVICE void emu_mma_call(int site, D *const (&d)[outs], In... in) {
    constexpr int count_a = M * K / 32 / A::each, count_b = 8 * K / 32 / B::each;
    static_assert(sizeof...(In) == count_a + count_b + outs, "mma: wrong number of registers");
    const uint32_t words[] = {emu_bits<uint32_t>(in)...};
    emu_mma_words<M, K, A, B, saturate>(d, words, words + count_a, words + count_a + count_b, outs, site);
}

#define EMU_MMA4(NAME, M, K, A, B, SATURATE)                                                                           \
    template <class D, class... In>                                                                                    \
    EMU_DEVICE void emu_ptx_mma_sync_aligned_##NAME(int site, D &d0, D &d1, D &d2, D &d3, In... in) {                  \
        D *const d[] = {&d0, &d1, &d2, &d3};                                                                           \
        emu_mma_call<M, K, A, B, SATURATE>(site, d, in...);                                                            \
    }
#define EMU_MMA2(NAME, M, K, A, B, SATURATE)                                                                           \
    template <class D, class... In>                                                                                    \
    EMU_DEVICE void emu_ptx_mma_sync_aligned_##NAME(int site, D &d0, D &d1, In... in) {                                \
        D *const d[] = {&d0, &d1};                                                                                     \
        emu_mma_call<M, K, A, B, SATURATE>(site, d, in...);                                                            \
    }
EMU_MMA4(m16n8k16_row_col_f32_f16_f16_f32, 16, 16, emu_f16, emu_f16, false)
EMU_MMA2(m16n8k16_row_col_f16_f16_f16_f16, 16, 16, emu_f16, emu_f16, false)
EMU_MMA4(m16n8k8_row_col_f32_f16_f16_f32, 16, 8, emu_f16, emu_f16, false)
EMU_MMA2(m16n8k8_row_col_f16_f16_f16_f16, 16, 8, emu_f16, emu_f16, false)
EMU_MMA4(m16n8k16_row_col_f32_bf16_bf16_f32, 16, 16, emu_bf16, emu_bf16, false)
EMU_MMA4(m16n8k8_row_col_f32_bf16_bf16_f32, 16, 8, emu_bf16, emu_bf16, false)
EMU_MMA4(m16n8k4_row_col_f32_tf32_tf32_f32, 16, 4, emu_tf32, emu_tf32, false)
EMU_MMA4(m16n8k8_row_col_f32_tf32_tf32_f32, 16, 8, emu_tf32, emu_tf32, false)
#define EMU_MMA_INTEGERS(A, B)                                                                                         \
    EMU_MMA2(m8n8k16_row_col_s32_##A##_##B##_s32, 8, 16, emu_##A, emu_##B, false)                                      \
    EMU_MMA4(m16n8k16_row_col_s32_##A##_##B##_s32, 16, 16, emu_##A, emu_##B, false)                                    \
    EMU_MMA4(m16n8k32_row_col_s32_##A##_##B##_s32, 16, 32, emu_##A, emu_##B, false)                                    \
    EMU_MMA2(m8n8k16_row_col_satfinite_s32_##A##_##B##_s32, 8, 16, emu_##A, emu_##B, true)                             \
    EMU_MMA4(m16n8k16_row_col_satfinite_s32_##A##_##B##_s32, 16, 16, emu_##A, emu_##B, true)                           \
    EMU_MMA4(m16n8k32_row_col_satfinite_s32_##A##_##B##_s32, 16, 32, emu_##A, emu_##B, true)
EMU_MMA_INTEGERS(s8, s8)
EMU_MMA_INTEGERS(s8, u8)
EMU_MMA_INTEGERS(u8, s8)
EMU_MMA_INTEGERS(u8, u8)
#undef EMU_MMA_INTEGERS
#undef EMU_MMA2
#undef EMU_MMA4

#endif
