#include "frames.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "zstd.h"

bool frames_begin(struct frames *frames, struct failure *failure)
{
    *frames = (struct frames){.stored = malloc(FRAME_MAX), .bytes = malloc(FRAME_MAX)};
    if (frames->stored != NULL && frames->bytes != NULL)
        return true;
    frames_end(frames);
    return fail(failure, STATUS_INTERNAL, "out of memory");
}

void frames_end(struct frames *frames)
{
    free(frames->stored);
    free(frames->bytes);
    *frames = (struct frames){0};
}

static size_t little_endian(const uint8_t *bytes)
{
    return bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 24;
}

static bool next_frame(struct frames *frames, struct failure *failure)
{
    uint8_t head[8];
    frames->at = frames->size = 0;
    if (fread(head, sizeof head, 1, stdin) != 1)
        return fail(failure, STATUS_STREAM, "the stream was cut off");
    size_t size = little_endian(head), stored = little_endian(head + 4);
    if (size == 0 || size > FRAME_MAX || stored == 0 || stored > size)
        return fail(failure, STATUS_STREAM, "a frame of %zu bytes is announced with %zu", size, stored);
    if (fread(stored == size ? frames->bytes : frames->stored, stored, 1, stdin) != 1)
        return fail(failure, STATUS_STREAM, "the stream was cut off");
    if (stored < size && !zstd_decode(frames->stored, stored, frames->bytes, size))
        return fail(failure, STATUS_STREAM, "a compressed frame is damaged");
    frames->size = size;
    return true;
}

size_t frames_some(struct frames *frames, size_t most, const uint8_t **bytes, struct failure *failure)
{
    if (frames->at == frames->size && !next_frame(frames, failure))
        return 0;
    size_t left = frames->size - frames->at, size = most < left ? most : left;
    *bytes = frames->bytes + frames->at;
    frames->at += size;
    return size;
}

bool frames_take(struct frames *frames, void *out, size_t size, struct failure *failure)
{
    const uint8_t *bytes;
    for (size_t done = 0, some; done < size; done += some) {
        some = frames_some(frames, size - done, &bytes, failure);
        if (some == 0)
            return false;
        memcpy((uint8_t *)out + done, bytes, some);
    }
    return true;
}

bool frames_number(struct frames *frames, uint64_t *value, struct failure *failure)
{
    *value = 0;
    for (int shift = 0; shift < 63; shift += 7) {
        uint8_t byte;
        if (!frames_take(frames, &byte, 1, failure))
            return false;
        *value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80)
            return true;
    }
    return fail(failure, STATUS_STREAM, "a number has more than 63 bits");
}
