#include "sha256.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* The first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t word, int by)
{
    return word >> by | word << (32 - by);
}

static uint32_t big_endian(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* One round; the caller turns the eight words of the state instead of moving them. */
#define ROUND(a, b, c, d, e, f, g, h, i)                                                                     \
    do {                                                                                                     \
        uint32_t one = (h) + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + (((e) & (f)) ^ (~(e) & (g))) + \
                       K[i] + w[i];                                                                          \
        (d) += one;                                                                                          \
        (h) = one + (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) +                                         \
              (((a) & (b)) ^ ((a) & (c)) ^ ((b) & (c)));                                                     \
    } while (0)

static void add_plainly(uint32_t state[8], const uint8_t *data, size_t blocks)
{
    for (; blocks > 0; blocks--, data += 64) {
        uint32_t w[64], s[8];
        for (int i = 0; i < 16; i++)
            w[i] = big_endian(data + 4 * i);
        for (int i = 16; i < 64; i++)
            w[i] = w[i - 16] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] +
                   (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
        memcpy(s, state, sizeof s);
        for (int i = 0; i < 64; i += 8) {
            ROUND(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], i);
            ROUND(s[7], s[0], s[1], s[2], s[3], s[4], s[5], s[6], i + 1);
            ROUND(s[6], s[7], s[0], s[1], s[2], s[3], s[4], s[5], i + 2);
            ROUND(s[5], s[6], s[7], s[0], s[1], s[2], s[3], s[4], i + 3);
            ROUND(s[4], s[5], s[6], s[7], s[0], s[1], s[2], s[3], i + 4);
            ROUND(s[3], s[4], s[5], s[6], s[7], s[0], s[1], s[2], i + 5);
            ROUND(s[2], s[3], s[4], s[5], s[6], s[7], s[0], s[1], i + 6);
            ROUND(s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[0], i + 7);
        }
        for (int i = 0; i < 8; i++)
            state[i] += s[i];
    }
}

/* Four rounds at a time with the CPU's instructions for them, where it has them: FOUR(i) for rounds 4i to 4i
 * + 3. */
#define ALL_FOURS                                                                                      \
    FOUR(0)                                                                                            \
    FOUR(1) FOUR(2) FOUR(3) FOUR(4) FOUR(5) FOUR(6) FOUR(7) FOUR(8) FOUR(9) FOUR(10) FOUR(11) FOUR(12) \
        FOUR(13) FOUR(14) FOUR(15)

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

static bool is_quick(void)
{
    unsigned a, b, c, d, leaf7 = 0;
    if (__get_cpuid_count(7, 0, &a, &leaf7, &c, &d) == 0 || __get_cpuid(1, &a, &b, &c, &d) == 0)
        return false;
    return leaf7 & 1u << 29 && c & 1u << 9 && c & 1u << 19; /* SHA, SSSE3, SSE4.1 */
}

__attribute__((target("sha,sse4.1,ssse3"))) static void add_quickly(uint32_t state[8], const uint8_t *data,
                                                                    size_t blocks)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0xB1);
    __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(state + 4)), 0x1B);
    __m128i abef = _mm_alignr_epi8(low, high, 8), cdgh = _mm_blend_epi16(high, low, 0xF0);
    for (; blocks > 0; blocks--, data += 64) {
        __m128i m[4], word, before[2] = {abef, cdgh};
        for (int i = 0; i < 4; i++)
            m[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(data + 16 * i)), swap);
#define FOUR(i)                                                                                         \
    word = _mm_add_epi32(m[(i) % 4], _mm_loadu_si128((const __m128i *)(K + 4 * (i))));                  \
    cdgh = _mm_sha256rnds2_epu32(cdgh, abef, word);                                                     \
    abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(word, 0x0E));                            \
    if ((i) < 12)                                                                                       \
        m[(i) % 4] =                                                                                    \
            _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(m[(i) % 4], m[((i) + 1) % 4]),      \
                                               _mm_alignr_epi8(m[((i) + 3) % 4], m[((i) + 2) % 4], 4)), \
                                 m[((i) + 3) % 4]);
        ALL_FOURS
#undef FOUR
        abef = _mm_add_epi32(abef, before[0]);
        cdgh = _mm_add_epi32(cdgh, before[1]);
    }
    low = _mm_shuffle_epi32(abef, 0x1B);
    high = _mm_shuffle_epi32(cdgh, 0xB1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(low, high, 0xF0));
    _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(high, low, 8));
}

#elif defined(__aarch64__) && defined(__clang__)
#include <arm_neon.h>
#include <sys/auxv.h>

static bool is_quick(void)
{
    return getauxval(AT_HWCAP) & 1ul << 6; /* HWCAP_SHA2 */
}

__attribute__((target("sha2"))) static void add_quickly(uint32_t state[8], const uint8_t *data, size_t blocks)
{
    uint32x4_t abcd = vld1q_u32(state), efgh = vld1q_u32(state + 4);
    for (; blocks > 0; blocks--, data += 64) {
        uint32x4_t m[4], word, old, before[2] = {abcd, efgh};
        for (int i = 0; i < 4; i++)
            m[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(data + 16 * i)));
#define FOUR(i)                                                                                       \
    word = vaddq_u32(m[(i) % 4], vld1q_u32(K + 4 * (i)));                                             \
    old = abcd;                                                                                       \
    abcd = vsha256hq_u32(abcd, efgh, word);                                                           \
    efgh = vsha256h2q_u32(efgh, old, word);                                                           \
    if ((i) < 12)                                                                                     \
        m[(i) % 4] = vsha256su1q_u32(vsha256su0q_u32(m[(i) % 4], m[((i) + 1) % 4]), m[((i) + 2) % 4], \
                                     m[((i) + 3) % 4]);
        ALL_FOURS
#undef FOUR
        abcd = vaddq_u32(abcd, before[0]);
        efgh = vaddq_u32(efgh, before[1]);
    }
    vst1q_u32(state, abcd);
    vst1q_u32(state + 4, efgh);
}

#else
static bool is_quick(void)
{
    return false;
}

static void add_quickly(uint32_t state[8], const uint8_t *data, size_t blocks)
{
    add_plainly(state, data, blocks);
}
#endif

void sha256_begin(struct sha256 *sum)
{
    *sum = (struct sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c,
                                     0x1f83d9ab, 0x5be0cd19},
                           .add = is_quick() ? add_quickly : add_plainly};
}

void sha256_add(struct sha256 *sum, const void *data, size_t size)
{
    const uint8_t *at = data;
    size_t held = sum->size % sizeof sum->block;
    sum->size += size;
    if (held > 0) {
        size_t part = sizeof sum->block - held < size ? sizeof sum->block - held : size;
        memcpy(sum->block + held, at, part);
        at += part;
        size -= part;
        if (held + part < sizeof sum->block)
            return;
        sum->add(sum->state, sum->block, 1);
    }
    sum->add(sum->state, at, size / sizeof sum->block);
    memcpy(sum->block, at + size / sizeof sum->block * sizeof sum->block, size % sizeof sum->block);
}

void sha256_end(struct sha256 *sum, char hex[SHA256_HEX])
{
    static const uint8_t padding[64] = {0x80};
    uint64_t bits = sum->size * 8;
    uint8_t length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    size_t held = sum->size % sizeof sum->block;
    sha256_add(sum, padding, held < 56 ? 56 - held : 120 - held);
    sha256_add(sum, length, sizeof length);
    for (int i = 0; i < 8; i++)
        snprintf(hex + 8 * i, 9, "%08x", sum->state[i]);
}
