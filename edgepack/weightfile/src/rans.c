#include "rans.h"

#include <string.h>

enum {
    RAW = 0,
    CODED = 1, /* kinds of a plane */
    SCALE_BITS = 12,
    SCALE = 1 << SCALE_BITS,
    LANE_BITS = 12,
    LOWEST = 1 << 16, /* of a state between symbols, and where the encoder began */
};

/* What a value below SCALE means. */
struct slot {
    uint16_t frequency, offset; /* of its symbol; the value minus the symbol's first one */
    uint8_t symbol;
};

struct code {
    const uint8_t *at, *end;
};

static bool take(struct code *code, size_t size, const uint8_t **bytes)
{
    if ((size_t)(code->end - code->at) < size)
        return false;
    *bytes = code->at;
    code->at += size;
    return true;
}

static bool take_number(struct code *code, int bytes, uint32_t *number)
{
    const uint8_t *at;
    if (!take(code, (size_t)bytes, &at))
        return false;
    *number = 0;
    for (int i = bytes - 1; i >= 0; i--)
        *number = *number << 8 | at[i];
    return true;
}

/* Reads which symbols there are and how frequent they are; the frequencies add up to SCALE. */
static bool take_frequencies(struct code *code, struct slot *slots)
{
    const uint8_t *present;
    uint32_t first = 0;
    if (!take(code, 32, &present))
        return false;
    for (unsigned symbol = 0; symbol < 256; symbol++) {
        uint32_t frequency, high;
        if (!(present[symbol / 8] >> symbol % 8 & 1))
            continue;
        if (!take_number(code, 1, &frequency))
            return false;
        if (frequency & 0x80) {
            if (!take_number(code, 1, &high))
                return false;
            frequency = (frequency & 0x7f) | high << 7;
        }
        if (frequency == 0 || frequency > SCALE - first)
            return false;
        for (uint32_t i = 0; i < frequency; i++)
            slots[first + i] = (struct slot){(uint16_t)frequency, (uint16_t)i, (uint8_t)symbol};
        first += frequency;
    }
    return first == SCALE;
}

static bool decode_plane(struct code *code, uint8_t *out, size_t count, size_t width)
{
    struct slot slots[SCALE];
    uint32_t states[1 << LANE_BITS];
    uint32_t bits, words;
    const uint8_t *word;
    if (!take_frequencies(code, slots) || !take_number(code, 1, &bits) || bits > LANE_BITS)
        return false;
    const size_t lanes = (size_t)1 << bits;
    for (size_t lane = 0; lane < lanes; lane++)
        if (!take_number(code, 4, &states[lane]) || states[lane] < LOWEST)
            return false;
    if (!take_number(code, 4, &words) || !take(code, 2 * (size_t)words, &word))
        return false;
    const uint8_t *const end = word + 2 * (size_t)words;
    for (size_t i = 0; i < count; i++) {
        uint32_t state = states[i & (lanes - 1)];
        const struct slot *slot = &slots[state & (SCALE - 1)];
        out[i * width] = slot->symbol;
        state = slot->frequency * (state >> SCALE_BITS) + slot->offset;
        if (state < LOWEST) {
            if (word == end)
                return false;
            state = state << 16 | (uint32_t)(word[0] | word[1] << 8);
            word += 2;
        }
        states[i & (lanes - 1)] = state;
    }
    for (size_t lane = 0; lane < lanes; lane++)
        if (states[lane] != LOWEST)
            return false;
    return word == end;
}

bool rans_decode(const uint8_t *bytes, size_t size, uint8_t *out, size_t count, size_t width)
{
    struct code code = {bytes, bytes + size};
    for (size_t plane = 0; plane < width; plane++) {
        uint32_t kind;
        const uint8_t *raw;
        if (!take_number(&code, 1, &kind))
            return false;
        if (kind == CODED) {
            if (!decode_plane(&code, out + plane, count, width))
                return false;
        } else if (kind == RAW && take(&code, count, &raw)) {
            for (size_t i = 0; i < count; i++)
                out[i * width + plane] = raw[i];
        } else {
            return false;
        }
    }
    return code.at == code.end;
}
