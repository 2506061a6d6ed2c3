/* Content-defined chunks of files, with the cut points of a gear hash and normalised sizes as in FastCDC:
 * Xia et al., "FastCDC: a Fast and Efficient Content-Defined Chunking Approach for Data Deduplication",
 * USENIX ATC 2016. edgepack/remote/chunks.py cuts the same way; docs/agent-protocol.md specifies it. */
#ifndef EDGEPACK_CHUNKS_H
#define EDGEPACK_CHUNKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CHUNK_MIN = 2048, CHUNK_NORMAL = 8192, CHUNK_MAX = 32768, CHUNK_WINDOW = 32, CHUNK_FINEST = 4 };

struct gear {
    uint32_t values[256];
};

void gear_begin(struct gear *gear);

/* The size of the chunk that `data` begins with. Unless `size` is at least CHUNK_MAX, the file must end there. All sizes
 * are shifted to the right by `finer`, at most CHUNK_FINEST. */
size_t chunk_size(const struct gear *gear, int finer, const uint8_t *data, size_t size);

#endif
