#include "rans.h"

enum {
    RAW = 0, /* in place of the number of a plane's table */
    LANE_BITS = 12,
    LOWEST = 1 << 16, /* of a state between symbols, and where the encoder began */
};

/* What a value below SCALE means, in one word: its symbol; the value minus the symbol's first one; the frequency less 1. */
enum { OFFSET = 8, FREQUENCY = OFFSET + SCALE_BITS };

static void fill_slots(const struct frequencies *table, uint32_t *slots)
{
    for (uint32_t symbol = 0; symbol < VALUES; symbol++)
        for (uint32_t i = 0; i < table->of[symbol]; i++)
            *slots++ = symbol | i << OFFSET | (table->of[symbol] - UINT32_C(1)) << FREQUENCY;
}

/* The state after a symbol, before a word is added to it. */
static inline uint32_t after(uint32_t state, uint32_t slot)
{
    return ((slot >> FREQUENCY) + 1) * (state >> SCALE_BITS) + (slot >> OFFSET & (SCALE - 1));
}

/* Decodes symbols number `first` to `end`, for which there are as many words as symbols: without branches, because
 * whether a word is needed cannot be predicted. Returns what follows the last word used. */
static const uint8_t *decode_run(const uint32_t *slots, uint32_t *states, size_t lanes, const uint8_t *word, size_t first,
                                 size_t end, uint8_t *out, size_t width)
{
    for (size_t i = first; i < end; i++) {
        uint32_t *lane = &states[i & (lanes - 1)];
        const uint32_t slot = slots[*lane & (SCALE - 1)], state = after(*lane, slot);
        const uint32_t more = state << 16 | (uint32_t)(word[0] | word[1] << 8);
        const bool low = state < LOWEST;
        out[i * width] = (uint8_t)slot;
        *lane = low ? more : state;
        word += low ? 2 : 0;
    }
    return word;
}

static bool decode_plane(struct cursor *code, const struct frequencies *table, uint8_t *out, size_t count, size_t width)
{
    uint32_t slots[SCALE];
    uint32_t states[1 << LANE_BITS];
    uint64_t bits, words, state;
    const uint8_t *word;
    if (!take_number(code, 1, &bits) || bits > LANE_BITS)
        return false;
    fill_slots(table, slots);
    const size_t lanes = (size_t)1 << bits;
    for (size_t lane = 0; lane < lanes; lane++) {
        if (!take_number(code, 4, &state) || state < LOWEST)
            return false;
        states[lane] = (uint32_t)state;
    }
    if (!take_varint(code, &words) || words > SIZE_MAX / 2 || !take(code, 2 * words, &word))
        return false;
    const uint8_t *const end = word + 2 * words;
    for (size_t done = 0; done < count;) {
        const size_t left = (size_t)(end - word) / 2, run = left < count - done ? left : count - done;
        if (run > 0) {
            word = decode_run(slots, states, lanes, word, done, done + run, out, width);
            done += run;
            continue;
        }
        uint32_t *lane = &states[done & (lanes - 1)]; /* without another word */
        const uint32_t slot = slots[*lane & (SCALE - 1)];
        out[done++ * width] = (uint8_t)slot;
        *lane = after(*lane, slot);
        if (*lane < LOWEST)
            return false;
    }
    for (size_t lane = 0; lane < lanes; lane++)
        if (states[lane] != LOWEST)
            return false;
    return word == end;
}

bool rans_decode(const uint8_t *bytes, size_t size, const struct tables *tables, uint8_t *out, size_t count,
                 size_t width)
{
    struct cursor code = {bytes, bytes + size};
    for (size_t plane = 0; plane < width; plane++) {
        uint64_t table;
        const uint8_t *raw;
        if (!take_varint(&code, &table) || table > tables->count)
            return false;
        if (table != RAW) {
            if (!decode_plane(&code, &tables->all[table - 1], out + plane, count, width))
                return false;
        } else if (take(&code, count, &raw)) {
            for (size_t i = 0; i < count; i++)
                out[i * width + plane] = raw[i];
        } else {
            return false;
        }
    }
    return code.at == code.end;
}
