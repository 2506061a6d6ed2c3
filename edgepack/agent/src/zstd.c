#include "zstd.h"

#include <string.h>

#include "bits.h"
#include "entropy.h"

enum {
    BLOCK_MAX = 1 << 17,
    LENGTH_BITS = 9, /* most bits of a state for lengths of literals and of matches */
    OFFSET_BITS = 8,
    LITERAL_CODES = 36,
    OFFSET_CODES = 32,
    MATCH_CODES = 53,
};

struct bytes {
    const uint8_t *at, *end;
};

/* What blocks share: the tables that a later block may repeat, and the last three offsets. */
struct decoder {
    struct huffman huffman;
    struct fse literal, offset, match;
    struct fse_state literals_of[1 << LENGTH_BITS], offsets_of[1 << OFFSET_BITS], matches_of[1 << LENGTH_BITS];
    size_t recent[3];
    uint8_t literals[BLOCK_MAX];
    size_t literal_count;
    uint8_t *begin, *out, *end;
};

/* A code of a length: the least one, and the number of bits to add. */
struct length {
    uint32_t base;
    uint8_t bits;
};

static const struct length LITERAL_LENGTHS[LITERAL_CODES] = {
    {0, 0},     {1, 0},     {2, 0},     {3, 0},      {4, 0},      {5, 0},      {6, 0},       {7, 0},       {8, 0},
    {9, 0},     {10, 0},    {11, 0},    {12, 0},     {13, 0},     {14, 0},     {15, 0},      {16, 1},      {18, 1},
    {20, 1},    {22, 1},    {24, 2},    {28, 2},     {32, 3},     {40, 3},     {48, 4},      {64, 6},      {128, 7},
    {256, 8},   {512, 9},   {1024, 10}, {2048, 11},  {4096, 12},  {8192, 13},  {16384, 14},  {32768, 15},  {65536, 16},
};
static const struct length MATCH_LENGTHS[MATCH_CODES] = {
    {3, 0},      {4, 0},      {5, 0},       {6, 0},       {7, 0},      {8, 0},      {9, 0},     {10, 0},   {11, 0},
    {12, 0},     {13, 0},     {14, 0},      {15, 0},      {16, 0},     {17, 0},     {18, 0},    {19, 0},   {20, 0},
    {21, 0},     {22, 0},     {23, 0},      {24, 0},      {25, 0},     {26, 0},     {27, 0},    {28, 0},   {29, 0},
    {30, 0},     {31, 0},     {32, 0},      {33, 0},      {34, 0},     {35, 1},     {37, 1},    {39, 1},   {41, 1},
    {43, 2},     {47, 2},     {51, 3},      {59, 3},      {67, 4},     {83, 4},     {99, 5},    {131, 7},  {259, 8},
    {515, 9},    {1027, 10},  {2051, 11},   {4099, 12},   {8195, 13},  {16387, 14}, {32771, 15}, {65539, 16},
};

/* The distributions of blocks without their own. */
static const int16_t LITERAL_COUNTS[LITERAL_CODES] = {4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2,  2,  2,  1,  1,  1,  2, 2,
                                                      2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1};
static const int16_t OFFSET_COUNTS[29] = {1, 1, 1, 1, 1, 1, 2, 2, 2, 1,  1,  1,  1,  1, 1,
                                          1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1};
static const int16_t MATCH_COUNTS[MATCH_CODES] = {1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1,  1,  1,  1,  1,  1,  1, 1,
                                                  1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,  1,  1,  1,  1,  1,  1, 1,
                                                  1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1};

static size_t left(const struct bytes *in)
{
    return (size_t)(in->end - in->at);
}

static uint64_t little_endian(const uint8_t *at, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

static bool take_frame_header(struct bytes *in)
{
    static const uint8_t ID_SIZES[] = {0, 1, 2, 4}, CONTENT_SIZES[] = {0, 2, 4, 8};
    if (left(in) < 5 || little_endian(in->at, 4) != 0xFD2FB528)
        return false;
    uint8_t flags = in->at[4];
    bool single = flags & 0x20;
    size_t content = flags < 0x40 ? single : CONTENT_SIZES[flags >> 6];
    size_t size = 5 + !single + content;
    if (ID_SIZES[flags & 3] != 0 || flags & 8 || left(in) < size)
        return false;
    in->at += size;
    in->end -= flags & 4 ? (left(in) < 4 ? left(in) : 4) : 0; /* the checksum */
    return true;
}

static bool decode_streams(struct decoder *decoder, struct bytes in, bool four)
{
    uint8_t *out = decoder->literals;
    size_t count = decoder->literal_count;
    if (!four)
        return huffman_decode(&decoder->huffman, in.at, left(&in), out, count);
    size_t quarter = (count + 3) / 4;
    if (left(&in) < 6 || quarter * 3 > count)
        return false;
    const uint8_t *sizes = in.at;
    in.at += 6;
    for (int i = 0; i < 4; i++) {
        size_t size = i < 3 ? (size_t)little_endian(sizes + 2 * i, 2) : left(&in);
        size_t symbols = i < 3 ? quarter : count - 3 * quarter;
        if (size > left(&in) || !huffman_decode(&decoder->huffman, in.at, size, out, symbols))
            return false;
        in.at += size, out += symbols;
    }
    return true;
}

/* Literals as they are, or one byte repeated. */
static bool take_plain_literals(struct decoder *decoder, struct bytes *in, bool repeated)
{
    static const uint8_t SIZES[] = {1, 2, 1, 3};
    uint8_t first = in->at[0];
    size_t header = SIZES[first >> 2 & 3];
    if (left(in) < header)
        return false;
    size_t count = (size_t)little_endian(in->at, header) >> (header == 1 ? 3 : 4);
    in->at += header;
    if (count > BLOCK_MAX || left(in) < (repeated ? 1 : count))
        return false;
    if (repeated)
        memset(decoder->literals, *in->at, count);
    else
        memcpy(decoder->literals, in->at, count);
    in->at += repeated ? 1 : count;
    decoder->literal_count = count;
    return true;
}

static bool take_literals(struct decoder *decoder, struct bytes *in)
{
    static const uint8_t SIZES[] = {3, 3, 4, 5}, BITS[] = {10, 10, 14, 18};
    if (left(in) < 1)
        return false;
    int type = *in->at & 3, format = *in->at >> 2 & 3;
    if (type < 2)
        return take_plain_literals(decoder, in, type == 1);
    if (left(in) < SIZES[format])
        return false;
    uint64_t header = little_endian(in->at, SIZES[format]) >> 4;
    uint64_t mask = ((uint64_t)1 << BITS[format]) - 1;
    size_t stored = (size_t)(header >> BITS[format] & mask);
    decoder->literal_count = (size_t)(header & mask);
    in->at += SIZES[format];
    if (stored > left(in) || decoder->literal_count > BLOCK_MAX)
        return false;
    struct bytes data = {in->at, in->at + stored};
    in->at += stored;
    if (type == 2) {
        size_t used = huffman_read(&decoder->huffman, data.at, stored);
        if (used == 0)
            return false;
        data.at += used;
    }
    return decode_streams(decoder, data, format != 0);
}

/* A kind of table: its codes and the most bits of a state. */
struct kind {
    int codes, bits;
    const int16_t *counts; /* of blocks without their own, with a state of so many bits */
    int count, count_bits;
};

static bool take_table(struct fse *table, int mode, const struct kind *kind, struct bytes *in)
{
    int16_t counts[MATCH_CODES] = {0};
    if (mode == 0) {
        memcpy(counts, kind->counts, (size_t)kind->count * sizeof *counts);
        return fse_build(table, counts, kind->count, kind->count_bits);
    }
    if (mode == 3)
        return table->bits >= 0;
    if (left(in) < 1)
        return false;
    if (mode == 1) {
        if (*in->at >= kind->codes)
            return false;
        fse_single(table, *in->at++);
        return true;
    }
    size_t used = fse_read(table, in->at, left(in), kind->codes, kind->bits);
    in->at += used;
    return used > 0;
}

/* Appends literals, and a match `offset` bytes back. */
static bool append(struct decoder *decoder, size_t *literal, size_t count, size_t offset, size_t length)
{
    if (count > decoder->literal_count - *literal || count > (size_t)(decoder->end - decoder->out))
        return false;
    memcpy(decoder->out, decoder->literals + *literal, count);
    *literal += count, decoder->out += count;
    if (length == 0)
        return true;
    if (offset == 0 || offset > (size_t)(decoder->out - decoder->begin) ||
        length > (size_t)(decoder->end - decoder->out))
        return false;
    for (const uint8_t *from = decoder->out - offset; length > 0; length--)
        *decoder->out++ = *from++;
    return true;
}

/* The offset that a value means: one of the last three, or a new one. */
static size_t find_offset(size_t recent[3], uint64_t value, bool no_literals)
{
    size_t offset;
    uint64_t index = value - 1 + no_literals;
    if (value > 3) {
        offset = (size_t)(value - 3);
        index = 2;
    } else {
        offset = index == 3 ? recent[0] - 1 : recent[index];
    }
    if (index > 1)
        recent[2] = recent[1];
    if (index > 0)
        recent[1] = recent[0];
    recent[0] = offset;
    return offset;
}

static bool run_sequences(struct decoder *decoder, const struct bytes *in, size_t count, size_t *literal)
{
    struct bits bits;
    if (!bits_begin(&bits, in->at, left(in)))
        return false;
    uint32_t literals = bits_take(&bits, decoder->literal.bits);
    uint32_t offsets = bits_take(&bits, decoder->offset.bits);
    uint32_t matches = bits_take(&bits, decoder->match.bits);
    while (count-- > 0) {
        struct length many = LITERAL_LENGTHS[decoder->literal.states[literals].symbol];
        struct length long_ = MATCH_LENGTHS[decoder->match.states[matches].symbol];
        int code = decoder->offset.states[offsets].symbol;
        uint64_t value = ((uint64_t)1 << code) + bits_take(&bits, code);
        size_t length = long_.base + bits_take(&bits, long_.bits);
        size_t taken = many.base + bits_take(&bits, many.bits);
        size_t offset = find_offset(decoder->recent, value, taken == 0);
        if (bits.left < 0 || !append(decoder, literal, taken, offset, length))
            return false;
        if (count > 0) {
            literals = fse_next(&decoder->literal, literals, &bits);
            matches = fse_next(&decoder->match, matches, &bits);
            offsets = fse_next(&decoder->offset, offsets, &bits);
        }
    }
    return bits.left == 0;
}

static bool take_sequences(struct decoder *decoder, struct bytes *in)
{
    static const struct kind LITERALS = {LITERAL_CODES, LENGTH_BITS, LITERAL_COUNTS, LITERAL_CODES, 6};
    static const struct kind OFFSETS = {OFFSET_CODES, OFFSET_BITS, OFFSET_COUNTS, 29, 5};
    static const struct kind MATCHES = {MATCH_CODES, LENGTH_BITS, MATCH_COUNTS, MATCH_CODES, 6};
    size_t literal = 0;
    if (left(in) < 1)
        return false;
    size_t first = *in->at, header = first < 128 ? 1 : first < 255 ? 2 : 3;
    if (left(in) < header + (first > 0))
        return false;
    size_t count = first < 128   ? first
                   : first < 255 ? (first - 128) << 8 | in->at[1]
                                 : (size_t)little_endian(in->at + 1, 2) + 0x7F00;
    in->at += header;
    if (count > 0) {
        uint8_t modes = *in->at++;
        if (modes & 3 || !take_table(&decoder->literal, modes >> 6, &LITERALS, in) ||
            !take_table(&decoder->offset, modes >> 4 & 3, &OFFSETS, in) ||
            !take_table(&decoder->match, modes >> 2 & 3, &MATCHES, in) ||
            !run_sequences(decoder, in, count, &literal))
            return false;
    } else if (left(in) > 0) {
        return false;
    }
    return append(decoder, &literal, decoder->literal_count - literal, 0, 0);
}

/* A block; `last` tells whether another one follows. */
static bool take_block(struct decoder *decoder, struct bytes *in, bool *last)
{
    if (left(in) < 3)
        return false;
    size_t header = (size_t)little_endian(in->at, 3), size = header >> 3, room = (size_t)(decoder->end - decoder->out);
    int type = header >> 1 & 3;
    *last = header & 1;
    in->at += 3;
    if (type == 3 || size > BLOCK_MAX || left(in) < (type == 1 ? 1 : size) || (type < 2 && size > room))
        return false;
    struct bytes data = {in->at, in->at + size};
    in->at += type == 1 ? 1 : size;
    if (type == 2)
        return take_literals(decoder, &data) && take_sequences(decoder, &data);
    if (type == 1)
        memset(decoder->out, *data.at, size);
    else
        memcpy(decoder->out, data.at, size);
    decoder->out += size;
    return true;
}

bool zstd_decode(const uint8_t *frame, size_t stored, uint8_t *out, size_t size)
{
    static struct decoder decoder;
    struct bytes in = {frame, frame + stored};
    bool last = false;
    decoder.huffman.bits = decoder.literal.bits = decoder.offset.bits = decoder.match.bits = -1;
    decoder.literal.states = decoder.literals_of;
    decoder.offset.states = decoder.offsets_of;
    decoder.match.states = decoder.matches_of;
    decoder.recent[0] = 1, decoder.recent[1] = 4, decoder.recent[2] = 8;
    decoder.begin = decoder.out = out;
    decoder.end = out + size;
    if (!take_frame_header(&in))
        return false;
    while (!last)
        if (!take_block(&decoder, &in, &last))
            return false;
    return decoder.out == decoder.end && in.at == in.end;
}
