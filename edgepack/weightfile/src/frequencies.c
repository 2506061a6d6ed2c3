#include "frequencies.h"

#include <string.h>

enum { LIST = 0, BITS = 1, CURVE = 2, STEP = 16, POINTS = VALUES / STEP + 1 };

/* The frequencies of the values that occur; the last one has what the others leave. */
static bool take_exact(struct cursor *cursor, const bool *occurs, struct frequencies *table)
{
    uint64_t rest = SCALE, frequency;
    int last = VALUES - 1;
    while (last >= 0 && !occurs[last])
        last--;
    if (last < 0)
        return false;
    for (int value = 0; value < last; value++) {
        if (!occurs[value])
            continue;
        if (!take_varint(cursor, &frequency) || frequency == 0 || frequency >= rest)
            return false;
        table->of[value] = (uint16_t)frequency;
        rest -= frequency;
    }
    table->of[last] = (uint16_t)rest;
    return true;
}

static bool take_list(struct cursor *cursor, struct frequencies *table)
{
    bool occurs[VALUES] = {false};
    uint64_t count;
    const uint8_t *values;
    if (!take_number(cursor, 1, &count) || !take(cursor, count + 1, &values))
        return false;
    for (uint64_t i = 0; i <= count; i++) {
        if (i > 0 && values[i] <= values[i - 1])
            return false;
        occurs[values[i]] = true;
    }
    return take_exact(cursor, occurs, table);
}

static bool take_bits(struct cursor *cursor, struct frequencies *table)
{
    bool occurs[VALUES];
    const uint8_t *bits;
    if (!take(cursor, VALUES / 8, &bits))
        return false;
    for (int value = 0; value < VALUES; value++)
        occurs[value] = bits[value / 8] >> value % 8 & 1;
    return take_exact(cursor, occurs, table);
}

/* Exceptions: values whose frequency is not on the curve; `*rest` is what they leave. */
static bool take_exceptions(struct cursor *cursor, struct frequencies *table, bool *excepted, uint64_t *others,
                            uint64_t *rest)
{
    uint64_t count, value, frequency;
    if (!take_number(cursor, 1, &count))
        return false;
    *others = VALUES - count;
    *rest = SCALE;
    for (uint64_t i = 0; i < count; i++) {
        if (!take_number(cursor, 1, &value) || !take_varint(cursor, &frequency) || excepted[value] ||
            frequency == 0 || frequency > *rest)
            return false;
        excepted[value] = true;
        table->of[value] = (uint16_t)frequency;
        *rest -= frequency;
    }
    return *rest >= *others;
}

static bool take_curve(struct cursor *cursor, struct frequencies *table)
{
    bool excepted[VALUES] = {false};
    uint32_t likelihood[VALUES];
    uint64_t start, others, rest, sum = 0, given = 0;
    const uint8_t *points;
    int likeliest = -1;
    if (!take_number(cursor, 1, &start) || !take(cursor, POINTS, &points) ||
        !take_exceptions(cursor, table, excepted, &others, &rest))
        return false;
    for (int place = 0; place < VALUES; place++) {
        const uint32_t right = (uint32_t)place % STEP;
        const uint32_t height = points[place / STEP] * (STEP - right) + points[place / STEP + 1] * right;
        likelihood[place] = (256 + height % 256) << height / 256; /* about 2^(height / 256) */
        if (excepted[(start + (uint64_t)place) % VALUES])
            continue;
        sum += likelihood[place];
        if (likeliest < 0 || likelihood[place] > likelihood[likeliest])
            likeliest = place;
    }
    for (int place = 0; place < VALUES; place++) {
        const uint64_t value = (start + (uint64_t)place) % VALUES;
        if (excepted[value])
            continue;
        table->of[value] = (uint16_t)(1 + likelihood[place] * (rest - others) / sum);
        given += table->of[value];
    }
    if (likeliest < 0)
        return false;
    table->of[(start + (uint64_t)likeliest) % VALUES] += (uint16_t)(rest - given);
    return true;
}

bool take_frequencies(struct cursor *cursor, struct frequencies *table)
{
    uint64_t form;
    memset(table, 0, sizeof *table);
    if (!take_number(cursor, 1, &form))
        return false;
    switch (form) {
    case LIST: return take_list(cursor, table);
    case BITS: return take_bits(cursor, table);
    case CURVE: return take_curve(cursor, table);
    default: return false;
    }
}
