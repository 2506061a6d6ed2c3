/* Frames on stdin: pieces of one stream of bytes, each compressed by zstd or as it is. */
#ifndef EDGEPACK_FRAMES_H
#define EDGEPACK_FRAMES_H

#include <stddef.h>
#include <stdint.h>

#include "fail.h"

enum { FRAME_MAX = 1 << 20 }; /* bytes of a frame, before and after compression */

struct frames {
    uint8_t *stored, *bytes; /* of the current frame: as it came, and decompressed */
    size_t at, size;
};

bool frames_begin(struct frames *frames, struct failure *failure);
void frames_end(struct frames *frames);

/* Takes up to `most` bytes of the stream, at least one, which stay valid until the next call; 0 with a failure if the
 * stream ends or is damaged. */
size_t frames_some(struct frames *frames, size_t most, const uint8_t **bytes, struct failure *failure);

/* Takes exactly `size` bytes. */
bool frames_take(struct frames *frames, void *out, size_t size, struct failure *failure);

/* Takes a number: seven bits in each byte, the lowest first, the highest bit set if another byte follows. */
bool frames_number(struct frames *frames, uint64_t *value, struct failure *failure);

#endif
