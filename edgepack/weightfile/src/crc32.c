#include "crc32.h"

#include <string.h>

enum { FOLD = 64 /* bytes of a step with CPU instructions */ };

/* The CRC-32 of a byte with 0 to 7 zero bytes after it. */
static void fill_tables(uint32_t tables[8][256])
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t value = byte;
        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? 0xedb88320 : 0);
        tables[0][byte] = value;
    }
    for (int table = 1; table < 8; table++)
        for (uint32_t byte = 0; byte < 256; byte++) {
            const uint32_t before = tables[table - 1][byte];
            tables[table][byte] = before >> 8 ^ tables[0][before & 255];
        }
}

/* Goes on with `crc`, eight bytes at a time. */
static uint32_t by_tables(const uint32_t tables[8][256], uint32_t crc, const uint8_t *data, size_t size)
{
    for (; size >= 8; data += 8, size -= 8) {
        crc ^= data[0] | data[1] << 8 | data[2] << 16 | (uint32_t)data[3] << 24;
        crc = tables[7][crc & 255] ^ tables[6][crc >> 8 & 255] ^ tables[5][crc >> 16 & 255] ^
              tables[4][crc >> 24] ^ tables[3][data[4]] ^ tables[2][data[5]] ^ tables[1][data[6]] ^
              tables[0][data[7]];
    }
    for (; size > 0; data++, size--)
        crc = crc >> 8 ^ tables[0][(crc ^ *data) & 255];
    return crc;
}

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

static bool instructions(void)
{
    uint32_t a, b, c, d;
    const uint32_t pclmulqdq = UINT32_C(1) << 1;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & pclmulqdq) != 0;
}

/* What 16 bytes become when `distance` bytes follow them, of which the constants are remainders of powers of x. */
__attribute__((target("pclmul"))) static inline __m128i folded(__m128i bytes, __m128i constants, __m128i next)
{
    const __m128i low = _mm_clmulepi64_si128(bytes, constants, 0x00);
    const __m128i high = _mm_clmulepi64_si128(bytes, constants, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

/* Folding by carry-less multiplication: V. Gopal et al., Fast CRC computation for generic polynomials using PCLMULQDQ
 * instruction, Intel 2009. Four times 16 bytes at once; the tables finish what is left. */
__attribute__((target("pclmul"))) static uint32_t by_instructions(const uint32_t tables[8][256], uint32_t crc,
                                                                  const uint8_t *data, size_t size)
{
    const __m128i by_64 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4), by_16 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
    const __m128i *at = (const __m128i *)(const void *)data;
    __m128i parts[4];
    uint8_t rest[sizeof *at];
    for (int i = 0; i < 4; i++)
        parts[i] = _mm_loadu_si128(at + i);
    parts[0] = _mm_xor_si128(parts[0], _mm_cvtsi32_si128((int)crc));
    for (data += FOLD, size -= FOLD; size >= FOLD; data += FOLD, size -= FOLD) {
        at = (const __m128i *)(const void *)data;
        for (int i = 0; i < 4; i++)
            parts[i] = folded(parts[i], by_64, _mm_loadu_si128(at + i));
    }
    for (int i = 1; i < 4; i++)
        parts[0] = folded(parts[0], by_16, parts[i]);
    _mm_storeu_si128((__m128i *)(void *)rest, parts[0]);
    return by_tables(tables, by_tables(tables, 0, rest, sizeof rest), data, size);
}

#elif defined(__aarch64__)
#include <sys/auxv.h>

static bool instructions(void)
{
    const unsigned long crc32 = 1 << 7; /* HWCAP_CRC32 in Linux's asm/hwcap.h */
    return (getauxval(AT_HWCAP) & crc32) != 0;
}

static uint32_t by_instructions(const uint32_t tables[8][256], uint32_t crc, const uint8_t *data, size_t size)
{
    for (; size >= 8; data += 8, size -= 8) {
        uint64_t bytes;
        memcpy(&bytes, data, sizeof bytes);
        __asm__(".arch_extension crc\n\tcrc32x %w0, %w0, %x1" : "+r"(crc) : "r"(bytes));
    }
    return by_tables(tables, crc, data, size);
}
#endif

void crc32_prepare(struct crc32 *crc32)
{
    fill_tables(crc32->tables);
    crc32->has_instructions = instructions();
}

uint32_t crc32_of(const struct crc32 *crc32, const uint8_t *data, size_t size)
{
    if (size >= FOLD && crc32->has_instructions)
        return ~by_instructions(crc32->tables, 0xffffffff, data, size);
    return ~by_tables(crc32->tables, 0xffffffff, data, size);
}
