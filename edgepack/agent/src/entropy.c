#include "entropy.h"

#include <string.h>

enum { MAX_SYMBOLS = 256, WEIGHT_BITS = 6, WEIGHTS = 13 };

bool fse_build(struct fse *table, const int16_t *counts, int symbols, int bits)
{
    uint16_t next[MAX_SYMBOLS];
    int size = 1 << bits, high = size, total = 0;
    for (int s = 0; s < symbols; s++) {
        total += counts[s] < 0 ? 1 : counts[s];
        next[s] = (uint16_t)(counts[s] < 0 ? 1 : counts[s]);
    }
    if (total != size)
        return false;
    for (int s = 0; s < symbols; s++)
        if (counts[s] < 0)
            table->states[--high].symbol = (uint8_t)s;
    /* The states of a symbol are spread over the table. */
    int position = 0, step = (size >> 1) + (size >> 3) + 3;
    for (int s = 0; s < symbols; s++)
        for (int i = 0; i < counts[s]; i++) {
            table->states[position].symbol = (uint8_t)s;
            do
                position = (position + step) & (size - 1);
            while (position >= high);
        }
    for (int i = 0; i < size; i++) {
        struct fse_state *state = &table->states[i];
        uint16_t number = next[state->symbol]++;
        state->bits = (uint8_t)(bits - highest_bit(number));
        state->base = (uint16_t)((number << state->bits) - size);
    }
    table->bits = bits;
    return true;
}

void fse_single(struct fse *table, uint8_t symbol)
{
    table->states[0] = (struct fse_state){symbol, 0, 0};
    table->bits = 0;
}

/* Bits from the beginning of data, the lowest first. */
struct forward {
    const uint8_t *data;
    size_t size, at; /* bytes; bits that were taken */
};

static uint32_t take(struct forward *in, int count)
{
    uint32_t value = 0;
    for (int i = 0; i < count; i++, in->at++)
        if (in->at / 8 < in->size)
            value |= (uint32_t)(in->data[in->at / 8] >> in->at % 8 & 1) << i;
    return value;
}

/* How often a symbol occurs, plus one: the smaller ones of those that can occur take one bit less. */
static int take_count(struct forward *in, int remaining)
{
    int bits = highest_bit((uint32_t)remaining + 1) + 1;
    uint32_t half = 1u << (bits - 1), fewer = 2 * half - 2 - (uint32_t)remaining;
    uint32_t value = take(in, bits - 1);
    if (value < fewer)
        return (int)value;
    if (take(in, 1))
        value += half - fewer;
    return (int)value;
}

size_t fse_read(struct fse *table, const uint8_t *data, size_t size, int symbols, int bits)
{
    struct forward in = {data, size, 0};
    int16_t counts[MAX_SYMBOLS] = {0};
    int own = (int)take(&in, 4) + 5, remaining = 1 << own, symbol = 0;
    if (own > bits)
        return 0;
    while (remaining > 0 && symbol < symbols) {
        int count = take_count(&in, remaining) - 1;
        counts[symbol++] = (int16_t)count;
        remaining -= count < 0 ? 1 : count;
        for (uint32_t more = count == 0 ? 3 : 0; more == 3; symbol += (int)more)
            more = take(&in, 2);
    }
    size_t used = (in.at + 7) / 8;
    if (remaining != 0 || symbol > symbols || used > size || !fse_build(table, counts, symbol, own))
        return 0;
    return used;
}

/* Weights that are coded by two states in turns; their number, 0 if they are damaged. */
static int read_weights(const uint8_t *data, size_t size, uint8_t *weights)
{
    struct fse_state states[1 << WEIGHT_BITS];
    struct fse table = {states, -1};
    struct bits bits;
    size_t used = fse_read(&table, data, size, WEIGHTS, WEIGHT_BITS);
    if (used == 0 || !bits_begin(&bits, data + used, size - used))
        return 0;
    uint32_t state[2];
    int count = 0;
    for (int i = 0; i < 2; i++)
        state[i] = bits_take(&bits, table.bits);
    if (bits.left < 0)
        return 0;
    for (int turn = 0; count < MAX_SYMBOLS - 2; turn ^= 1) {
        weights[count++] = states[state[turn]].symbol;
        state[turn] = fse_next(&table, state[turn], &bits);
        if (bits.left < 0) { /* the other state is the last one */
            weights[count++] = states[state[turn ^ 1]].symbol;
            return count;
        }
    }
    return 0;
}

/* The codes of symbols with these weights: those of weight 1 are the longest and come first. The weight of the last
 * symbol is what completes the tree. */
static bool build_codes(struct huffman *huffman, uint8_t *weights, int count)
{
    uint32_t sum = 0, position = 0;
    for (int i = 0; i < count; i++) {
        if (weights[i] > HUFFMAN_BITS)
            return false;
        sum += weights[i] > 0 ? 1u << (weights[i] - 1) : 0;
    }
    int bits = sum > 0 ? highest_bit(sum) + 1 : 0;
    if (bits == 0 || bits > HUFFMAN_BITS)
        return false;
    uint32_t rest = (1u << bits) - sum;
    if ((rest & (rest - 1)) != 0)
        return false;
    weights[count++] = (uint8_t)(highest_bit(rest) + 1);
    for (int weight = 1; weight <= bits; weight++)
        for (int s = 0; s < count; s++)
            for (uint32_t i = 0; weights[s] == weight && i < 1u << (weight - 1); i++, position++) {
                huffman->codes[position].symbol = (uint8_t)s;
                huffman->codes[position].bits = (uint8_t)(bits + 1 - weight);
            }
    huffman->bits = bits;
    return true;
}

size_t huffman_read(struct huffman *huffman, const uint8_t *data, size_t size)
{
    uint8_t weights[MAX_SYMBOLS];
    if (size == 0)
        return 0;
    int count = data[0] - 127;
    size_t used = 1 + (data[0] < 128 ? data[0] : (size_t)(count + 1) / 2);
    if (used > size)
        return 0;
    if (data[0] < 128)
        count = read_weights(data + 1, data[0], weights);
    else
        for (int i = 0; i < count; i++)
            weights[i] = i % 2 == 0 ? data[1 + i / 2] >> 4 : data[1 + i / 2] & 15;
    return count > 0 && build_codes(huffman, weights, count) ? used : 0;
}

bool huffman_decode(const struct huffman *huffman, const uint8_t *data, size_t size, uint8_t *out,
                    size_t count)
{
    struct bits bits;
    if (huffman->bits < 0 || !bits_begin(&bits, data, size))
        return false;
    for (size_t i = 0; i < count; i++) {
        uint32_t code = bits_see(&bits, huffman->bits);
        out[i] = huffman->codes[code].symbol;
        bits.left -= huffman->codes[code].bits;
    }
    return bits.left == 0;
}
