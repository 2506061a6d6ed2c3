/* nvcuda::wmma: matrix products of a warp (CUDA C++ Programming Guide, Warp Matrix Functions).
 *
 * The elements of a matrix are numbered row by row, and each lane holds an equal run of them: CUDA leaves the layout open.
 * Half matrices have 16 elements per lane as in CUDA, of which those beyond the lane's share are not used. Products are
 * summed in float, in the order of k, and rounded to a half accumulator once at the end. */
#ifndef EDGEPACK_EMULATION_DEVICE_WMMA_H
#define EDGEPACK_EMULATION_DEVICE_WMMA_H

#include "warp.h"

namespace nvcuda {
namespace wmma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major, mem_col_major };

template <class A, class B> inline constexpr bool emu_same = cuda::std::is_same_v<A, B>;

template <class Use, int M, int N, int K, class T, class Layout> struct emu_shape {
    static_assert((M == 16 && N == 16 && K == 16) || (M == 32 && N == 8 && K == 16) || (M == 8 && N == 32 && K == 16),
                  "wmma: 16x16x16, 32x8x16 or 8x32x16");
    static constexpr bool sum = emu_same<Use, accumulator>;
    static_assert(sum ? emu_same<T, half> || emu_same<T, float> || emu_same<T, int>
                      : emu_same<T, half> || emu_same<T, nv_bfloat16> || emu_same<T, signed char> ||
                            emu_same<T, unsigned char>,
                  "wmma: matrices of half, bfloat16 or 8-bit integers, accumulators of half, float or int");
    static constexpr int rows = emu_same<Use, matrix_b> ? K : M, columns = emu_same<Use, matrix_a> ? K : N;
    static constexpr int share = rows * columns / EMU_WARP;
    static constexpr int elements = !sum && emu_same<T, half> ? 16 : share;
};

template <class Use, int M, int N, int K, class T, class Layout = void> struct fragment {
    typedef emu_shape<Use, M, N, K, T, Layout> shape;
    typedef T element_type;
    typedef T storage_element_type;
    enum { num_elements = shape::elements, num_storage_elements = shape::elements };
    T x[num_elements];
};

template <class Use, int M, int N, int K, class T, class Layout, class V>
EMU_DEVICE void fill_fragment(fragment<Use, M, N, K, T, Layout> &to, const V &value) {
    for (auto &x : to.x) x = (T)value;
}

/* The guide asks for 256 bits at the matrix and for 128 at each row or column; 8-bit tiles lie 128 bits apart. */
template <class T> EMU_DEVICE void emu_check_matrix(const T *matrix, unsigned int ldm, const char *what) {
    unsigned int alignment = sizeof(T) == 1 ? 16 : 32;
    if ((uintptr_t)matrix % alignment) emu_fault("%s: the matrix is not aligned to %u bytes", what, alignment);
    if (ldm * sizeof(T) % 16) emu_fault("%s: rows of %u elements of %u bytes are not aligned to 16 bytes", what, ldm,
                                        (unsigned int)sizeof(T));
}

template <class F, class T>
EMU_DEVICE void emu_load_matrix(F &to, const T *from, unsigned int ldm, bool by_rows, int site) {
    emu_check_matrix(from, ldm, "load_matrix_sync");
    emu_warp_barrier(0xffffffffu, site);
    typedef typename F::shape shape;
    unsigned int first = emu_own_lane() * shape::share;
    for (unsigned int i = 0; i < shape::share; i++) {
        unsigned int row = (first + i) / shape::columns, column = (first + i) % shape::columns;
        to.x[i] = from[by_rows ? row * ldm + column : column * ldm + row];
    }
    for (unsigned int i = shape::share; i < F::num_elements; i++) to.x[i] = to.x[i % shape::share];
}

template <class Use, int M, int N, int K, class T, class Layout>
EMU_DEVICE void load_matrix_sync(fragment<Use, M, N, K, T, Layout> &to, const T *from, unsigned int ldm, EMU_SITE) {
    static_assert(emu_same<Layout, row_major> || emu_same<Layout, col_major>, "wmma: an accumulator's layout is given");
    emu_load_matrix(to, from, ldm, emu_same<Layout, row_major>, site);
}
template <int M, int N, int K, class T>
EMU_DEVICE void load_matrix_sync(fragment<accumulator, M, N, K, T> &to, const T *from, unsigned int ldm, layout_t layout,
                                 EMU_SITE) {
    emu_load_matrix(to, from, ldm, layout == mem_row_major, site);
}

template <int M, int N, int K, class T>
EMU_DEVICE void store_matrix_sync(T *to, const fragment<accumulator, M, N, K, T> &from, unsigned int ldm, layout_t layout,
                                  EMU_SITE) {
    emu_check_matrix(to, ldm, "store_matrix_sync");
    emu_warp_barrier(0xffffffffu, site);
    unsigned int first = emu_own_lane() * 8;
    for (unsigned int i = 0; i < 8; i++) {
        unsigned int row = (first + i) / N, column = (first + i) % N;
        to[layout == mem_row_major ? row * ldm + column : column * ldm + row] = from.x[i];
    }
}

/* What a lane publishes: its shares of both matrices. */
template <class A, class B> struct emu_shares {
    const A *a;
    const B *b;
};

/* The lane's 8 elements of the product: columns of one row. */
template <class Sum, int M, int N, int K, class A, class B>
EMU_DRIVER void emu_multiply(Sum (&sums)[8], const A *a, const B *b, int site) {
    constexpr unsigned int share_a = M * K / EMU_WARP, share_b = K * N / EMU_WARP;
    uint32_t lane = emu_own_lane(), row = lane * 8 / N, column = lane * 8 % N;
    if (emu_active_lanes() != 0xffffffffu) emu_fault("mma_sync needs all 32 lanes of the warp");
    *(emu_shares<A, B> *)emu_lane(lane) = {a, b};
    emu_warp_barrier(0xffffffffu, site);
    emu_shares<A, B> lanes[EMU_WARP];
    for (uint32_t i = 0; i < EMU_WARP; i++) lanes[i] = *(const emu_shares<A, B> *)emu_lane(i);
    for (uint32_t k = 0; k < K; k++) {
        uint32_t i = row * K + k;
        Sum left = (Sum)lanes[i / share_a].a[i % share_a];
        for (uint32_t j = 0; j < 8; j++) {
            i = k * N + column + j;
            sums[j] += left * (Sum)lanes[i / share_b].b[i % share_b];
        }
    }
    emu_warp_barrier(0xffffffffu, site);
}

/* D = A B + C. */
template <int M, int N, int K, class T, class LayoutA, class LayoutB, class C, class D>
EMU_DEVICE void mma_sync(fragment<accumulator, M, N, K, D> &d, const fragment<matrix_a, M, N, K, T, LayoutA> &a,
                         const fragment<matrix_b, M, N, K, T, LayoutB> &b, const fragment<accumulator, M, N, K, C> &c,
                         bool saturate = false, EMU_SITE) {
    constexpr bool integers = emu_same<T, signed char> || emu_same<T, unsigned char>;
    static_assert(integers ? emu_same<C, int> && emu_same<D, int>
                           : emu_same<T, half> ? !emu_same<C, int> && !emu_same<D, int>
                                               : emu_same<C, float> && emu_same<D, float>,
                  "wmma: this type of accumulator does not go with this type of matrices");
    typedef typename cuda::std::conditional<integers, long long, float>::type sum;
    sum sums[8];
    for (int i = 0; i < 8; i++) sums[i] = (sum)c.x[i];
    emu_multiply<sum, M, N, K>(sums, a.x, b.x, site);
    for (int i = 0; i < 8; i++) {
        if constexpr (integers) {
            long long x = sums[i];
            if (saturate) x = x < INT32_MIN ? INT32_MIN : x > INT32_MAX ? INT32_MAX : x;
            d.x[i] = (int)x;
        } else {
            d.x[i] = (D)sums[i];
        }
    }
}

} // namespace wmma
} // namespace nvcuda

#endif
