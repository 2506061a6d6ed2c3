/* How a module's table of kernels runs them; included by the code that edgepack.emulation.rewrite adds to a source. */
#ifndef EDGEPACK_EMULATION_KERNEL_H
#define EDGEPACK_EMULATION_KERNEL_H

#include "launch.h"

/* These functions read the host's memory: parameters and the driver's structures. */
#define EMU_UNCHECKED __attribute__((no_sanitize("kernel-address")))

#include "checks.h"

/* Runs the statement that follows once for each thread of the block of `self`, in ascending order if `order` is NULL. */
#define EMU_EACH_THREAD(self, order)                                                                          \
    for (uint32_t emu_i = 0, emu_n = (self)->block_size.x * (self)->block_size.y * (self)->block_size.z;     \
         emu_i < emu_n && (emu_enter(self, (order) ? (order)[emu_i] : emu_i), true); emu_i++)

EMU_UNCHECKED static inline void emu_enter(struct emu_thread *self, uint32_t number)
{
    const struct emu_index size = self->block_size;
    self->number = number;
    self->thread = {number % size.x, number / size.x % size.y, number / size.x / size.y};
}

#endif
