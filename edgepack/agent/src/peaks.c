#include "peaks.h"

/* A loop with enough sums at a time that none waits for another. STEP adds a vector of products to `sum`; `a` and `b` are
 * unknown to the compiler in each step, so that nothing leaves the loop. */
#define SUMS(NAME, TARGET, VECTOR, COUNT, ZERO, A, B, REGISTER, STEP)                                                          \
    TARGET static void NAME(int64_t rounds)                                                                                    \
    {                                                                                                                          \
        VECTOR sums[COUNT], a = A, b = B;                                                                                      \
        _Pragma("GCC unroll 32") for (int i = 0; i < (COUNT); i++) sums[i] = ZERO;                                             \
        for (int64_t round = 0; round < rounds; round++) {                                                                     \
            _Pragma("GCC unroll 32") for (int i = 0; i < (COUNT); i++)                                                         \
            {                                                                                                                  \
                VECTOR sum = sums[i];                                                                                          \
                __asm__ volatile("" : "+" REGISTER(a), "+" REGISTER(b));                                                       \
                sums[i] = STEP;                                                                                                \
            }                                                                                                                  \
        }                                                                                                                      \
        _Pragma("GCC unroll 32") for (int i = 0; i < (COUNT); i++) __asm__ volatile("" : : REGISTER(sums[i]));                 \
    }

/* Reading and copying, 8 vectors at a time. */
#define STREAMS(NAME, TARGET, VECTOR, REGISTER)                                                                                \
    TARGET static void NAME##_read(const char *from, size_t size)                                                              \
    {                                                                                                                          \
        const VECTOR *vectors = (const VECTOR *)(const void *)from;                                                            \
        for (size_t at = 0; at < size / sizeof *vectors; at += 8) {                                                            \
            _Pragma("GCC unroll 8") for (size_t i = 0; i < 8; i++)                                                             \
            {                                                                                                                  \
                const VECTOR value = vectors[at + i];                                                                          \
                __asm__ volatile("" : : REGISTER(value));                                                                      \
            }                                                                                                                  \
        }                                                                                                                      \
    }                                                                                                                          \
    TARGET static void NAME##_copy(char *to, const char *from, size_t size)                                                    \
    {                                                                                                                          \
        const VECTOR *vectors = (const VECTOR *)(const void *)from;                                                            \
        VECTOR *copies = (VECTOR *)(void *)to;                                                                                 \
        for (size_t at = 0; at < size / sizeof *vectors; at += 8) {                                                            \
            _Pragma("GCC unroll 8") for (size_t i = 0; i < 8; i++)                                                             \
            {                                                                                                                  \
                VECTOR value = vectors[at + i];                                                                                \
                __asm__ volatile("" : "+" REGISTER(value));                                                                    \
                copies[at + i] = value;                                                                                        \
            }                                                                                                                  \
        }                                                                                                                      \
    }

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#define WITH(FEATURES) __attribute__((target(FEATURES)))

SUMS(float_sse2, , __m128, 12, _mm_setzero_ps(), _mm_set1_ps(0.5f), _mm_set1_ps(0.5f), "x",
     _mm_add_ps(sum, _mm_mul_ps(a, b)))
SUMS(float_fma, WITH("avx2,fma"), __m256, 12, _mm256_setzero_ps(), _mm256_set1_ps(0.5f), _mm256_set1_ps(0.5f), "x",
     _mm256_fmadd_ps(a, b, sum))
SUMS(float_avx512, WITH("avx512f"), __m512, 24, _mm512_setzero_ps(), _mm512_set1_ps(0.5f), _mm512_set1_ps(0.5f), "v",
     _mm512_fmadd_ps(a, b, sum))
SUMS(int_sse2, , __m128i, 12, _mm_setzero_si128(), _mm_set1_epi16(1), _mm_set1_epi16(1), "x",
     _mm_add_epi32(sum, _mm_madd_epi16(a, b)))
SUMS(int_avx2, WITH("avx2"), __m256i, 12, _mm256_setzero_si256(), _mm256_set1_epi8(1), _mm256_set1_epi8(1), "x",
     _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1))))
SUMS(int_avxvnni, WITH("avx2,avxvnni"), __m256i, 12, _mm256_setzero_si256(), _mm256_set1_epi8(1), _mm256_set1_epi8(1), "x",
     _mm256_dpbusd_avx_epi32(sum, a, b))
SUMS(int_avx512vnni, WITH("avx512f,avx512vnni"), __m512i, 24, _mm512_setzero_si512(), _mm512_set1_epi8(1),
     _mm512_set1_epi8(1), "v", _mm512_dpbusd_epi32(sum, a, b))
STREAMS(sse2, , __m128i, "x")
STREAMS(avx2, WITH("avx2"), __m256i, "x")
STREAMS(avx512, WITH("avx512f"), __m512i, "v")

enum { YMM = 0x6, ZMM = 0xE6 }; /* registers that the system saves: bits of XCR0 */

static bool saved(unsigned registers)
{
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return false;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & registers) == registers;
}

enum extension { FMA, AVX2, AVX512F, AVX512_VNNI, AVX_VNNI };

/* Intel's manual, CPUID: leaf 1, leaf 7 and its subleaf 1. */
static bool has(enum extension extension)
{
    unsigned a = 0, b = 0, c = 0, d = 0, first = 0, unused;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !__get_cpuid(1, &unused, &unused, &first, &unused))
        return false;
    switch (extension) {
    case FMA: return first >> 12 & 1 && saved(YMM);
    case AVX2: return b >> 5 & 1 && saved(YMM);
    case AVX512F: return b >> 16 & 1 && saved(ZMM);
    case AVX512_VNNI: return c >> 11 & 1 && saved(ZMM);
    case AVX_VNNI: return a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && a >> 4 & 1 && saved(YMM);
    }
    return false;
}

struct peak peak_float32(void)
{
    if (has(AVX512F))
        return (struct peak){"avx512f", float_avx512, 24 * 16};
    if (has(AVX2) && has(FMA))
        return (struct peak){"fma", float_fma, 12 * 8};
    return (struct peak){"sse2", float_sse2, 12 * 4};
}

struct peak peak_int8(void)
{
    if (has(AVX512F) && has(AVX512_VNNI))
        return (struct peak){"avx512_vnni", int_avx512vnni, 24 * 64};
    if (has(AVX2) && has(AVX_VNNI))
        return (struct peak){"avx_vnni", int_avxvnni, 12 * 32};
    if (has(AVX2))
        return (struct peak){"avx2", int_avx2, 12 * 32};
    return (struct peak){"sse2", int_sse2, 12 * 8}; /* products of int16: there is no instruction for those of int8 */
}

struct streams peak_streams(void)
{
    if (has(AVX512F))
        return (struct streams){avx512_read, avx512_copy};
    if (has(AVX2))
        return (struct streams){avx2_read, avx2_copy};
    return (struct streams){sse2_read, sse2_copy};
}

#elif defined(__aarch64__)
#include <arm_neon.h>
#include <sys/auxv.h>

enum { ASIMDDP = 20 }; /* bit of AT_HWCAP, asm/hwcap.h */

SUMS(float_neon, , float32x4_t, 24, vdupq_n_f32(0), vdupq_n_f32(0.5f), vdupq_n_f32(0.5f), "w", vfmaq_f32(sum, a, b))
/* Products of 16 pairs in int16, of which neighbours are added to int32. */
SUMS(int_neon, , int8x16_t, 16, vdupq_n_s8(0), vdupq_n_s8(1), vdupq_n_s8(1), "w",
     vreinterpretq_s8_s32(vpadalq_s16(vreinterpretq_s32_s8(sum), vmlal_high_s8(vmull_s8(vget_low_s8(a), vget_low_s8(b)), a, b))))
SUMS(int_dotprod, __attribute__((target("dotprod"))), int8x16_t, 24, vdupq_n_s8(0), vdupq_n_s8(1), vdupq_n_s8(1), "w",
     vreinterpretq_s8_s32(vdotq_s32(vreinterpretq_s32_s8(sum), a, b)))
STREAMS(neon, , int8x16_t, "w")

struct peak peak_float32(void)
{
    return (struct peak){"asimd", float_neon, 24 * 4};
}

struct peak peak_int8(void)
{
    if (getauxval(AT_HWCAP) >> ASIMDDP & 1)
        return (struct peak){"asimddp", int_dotprod, 24 * 16};
    return (struct peak){"asimd", int_neon, 16 * 16};
}

struct streams peak_streams(void)
{
    return (struct streams){neon_read, neon_copy};
}

#else
#error "the agent knows no vector instructions of this architecture"
#endif
