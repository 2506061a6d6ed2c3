#include "rans.h"

enum {
    RAW = 0, /* in place of the number of a plane's table */
    LANE_BITS = 12,
    LOWEST = 1 << 16, /* of a state between symbols, and where the encoder began */
};

/* What a value below SCALE means. */
struct slot {
    uint16_t frequency, offset; /* of its symbol; the value minus the symbol's first one */
    uint8_t symbol;
};

static void fill_slots(const struct frequencies *table, struct slot *slots)
{
    for (unsigned symbol = 0; symbol < VALUES; symbol++)
        for (uint16_t i = 0; i < table->of[symbol]; i++)
            *slots++ = (struct slot){table->of[symbol], i, (uint8_t)symbol};
}

static bool decode_plane(struct cursor *code, const struct frequencies *table, uint8_t *out, size_t count, size_t width)
{
    struct slot slots[SCALE];
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
    for (size_t i = 0; i < count; i++) {
        uint32_t lane = states[i & (lanes - 1)];
        const struct slot *slot = &slots[lane & (SCALE - 1)];
        out[i * width] = slot->symbol;
        lane = slot->frequency * (lane >> SCALE_BITS) + slot->offset;
        if (lane < LOWEST) {
            if (word == end)
                return false;
            lane = lane << 16 | (uint32_t)(word[0] | word[1] << 8);
            word += 2;
        }
        states[i & (lanes - 1)] = lane;
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
