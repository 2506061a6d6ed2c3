/* Loops that a CPU runs as fast as it multiplies and adds, and as it reads and copies memory. */
#ifndef EDGEPACK_PEAKS_H
#define EDGEPACK_PEAKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* For a set of instructions: `macs` multiply-accumulates in each of `rounds`. */
struct peak {
    const char *isa;
    void (*run)(int64_t rounds);
    int64_t macs;
};

/* The best loops that this CPU has the instructions for: of float32, and of int8 with sums in int32. */
struct peak peak_float32(void);
struct peak peak_int8(void);

/* Reads `size` bytes, or copies them, with this CPU's widest vectors; `size` is a multiple of 1024. */
struct streams {
    void (*read)(const char *from, size_t size);
    void (*copy)(char *to, const char *from, size_t size);
};

struct streams peak_streams(void);

#endif
