/* Instructions of PTX that a source has as inline assembly. edgepack.emulation.ptx turns each into a call of
 * emu_ptx_<mnemonic>, with `_` for dots and colons: first the line of the source, then the operands in PTX's order.
 *
 * Addresses of shared memory are the host's, in 64 bits; the same module widens the variables that hold them. */
#ifndef EDGEPACK_EMULATION_DEVICE_PTX_H
#define EDGEPACK_EMULATION_DEVICE_PTX_H

#include "ptx_mma.h"
#include "warp.h"

/* An address as an operand "r" or "l": never as 32 bits, which would cut it off. */
struct emu_address {
    uint64_t value;
    EMU_DEVICE uint64_t of(const void *pointer) { return (uint64_t)(uintptr_t)pointer; }
    inline __attribute__((always_inline)) emu_address(const void *pointer) : value(of(pointer)) {}
    inline __attribute__((always_inline)) emu_address(const volatile void *pointer) : value(of((const void *)pointer)) {}
    inline __attribute__((always_inline)) emu_address(unsigned long address) : value(address) {}
    inline __attribute__((always_inline)) emu_address(unsigned long long address) : value(address) {}
    emu_address(unsigned int) = delete;
    emu_address(int) = delete;
    inline __attribute__((always_inline)) operator unsigned long long() const { return value; }
    inline __attribute__((always_inline)) operator unsigned long() const { return value; }
    operator unsigned int() const = delete;
    operator int() const = delete;
    template <class T> EMU_DEVICE T *pointer_of(uint64_t value) { return (T *)(uintptr_t)value; }
    template <class T> inline __attribute__((always_inline)) T *pointer() const { return pointer_of<T>(value); }
};
EMU_DEVICE emu_address __cvta_generic_to_shared(const void *pointer) { return emu_address(pointer); }
EMU_DEVICE emu_address __cvta_generic_to_global(const void *pointer) { return emu_address(pointer); }

/* Registers. */
EMU_DEVICE void emu_ptx_setp_ne_b32(int, bool &p, uint32_t a, uint32_t b) { p = a != b; }
EMU_DEVICE void emu_ptx_setp_ne_u32(int, bool &p, uint32_t a, uint32_t b) { p = a != b; }
EMU_DEVICE void emu_ptx_setp_ne_s32(int, bool &p, uint32_t a, uint32_t b) { p = a != b; }
EMU_DEVICE void emu_ptx_setp_eq_b32(int, bool &p, uint32_t a, uint32_t b) { p = a == b; }
EMU_DEVICE void emu_ptx_setp_eq_u32(int, bool &p, uint32_t a, uint32_t b) { p = a == b; }
EMU_DEVICE void emu_ptx_setp_eq_s32(int, bool &p, uint32_t a, uint32_t b) { p = a == b; }
template <class D> EMU_DEVICE void emu_ptx_mov_b32(int, D &d, uint32_t a) { d = emu_bits<D>(a); }
template <class D> EMU_DEVICE void emu_ptx_mov_u32(int, D &d, uint32_t a) { d = emu_bits<D>(a); }
EMU_DEVICE void emu_ptx_dp4a_s32_s32(int, int &d, uint32_t a, uint32_t b, uint32_t c) {
    d = emu_dp4a<int8_t, int8_t>(a, b, c);
}
EMU_DEVICE void emu_ptx_dp4a_u32_s32(int, int &d, uint32_t a, uint32_t b, uint32_t c) {
    d = emu_dp4a<uint8_t, int8_t>(a, b, c);
}
EMU_DEVICE void emu_ptx_dp4a_s32_u32(int, int &d, uint32_t a, uint32_t b, uint32_t c) {
    d = emu_dp4a<int8_t, uint8_t>(a, b, c);
}
EMU_DEVICE void emu_ptx_dp4a_u32_u32(int, unsigned int &d, uint32_t a, uint32_t b, uint32_t c) {
    d = (uint32_t)emu_dp4a<uint8_t, uint8_t>(a, b, c);
}

/* Loads and stores. */
EMU_DEVICE void emu_ptx_ld_global_nc_f32(int, float &d, emu_address from) { d = *from.pointer<const float>(); }
EMU_DEVICE void emu_ptx_ld_global_nc_L2__128B_f32(int, float &d, emu_address from) { d = *from.pointer<const float>(); }
EMU_DEVICE void emu_ptx_st_shared_u32(int, emu_address to, uint32_t x) { *to.pointer<uint32_t>() = x; }
EMU_DEVICE void emu_ptx_st_shared_v2_u32(int, emu_address to, uint32_t x, uint32_t y) {
    *to.pointer<uint2>() = uint2(x, y);
}
EMU_DEVICE void emu_ptx_st_shared_v4_u32(int, emu_address to, uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
    *to.pointer<uint4>() = uint4(x, y, z, w);
}

/* cp.async: both addresses are aligned to the size; beyond `available` bytes of the source it writes zeros. Both ends are
 * accessed now, for the checks, and the copy is made when the thread waits for it. */
template <int words> EMU_DEVICE void emu_copy_async(emu_address to, emu_address from) {
    typedef uint32_t whole __attribute__((ext_vector_type(words), may_alias));
    whole value = *from.pointer<const volatile whole>();
    (void)*to.pointer<const volatile whole>();
    emu_async_copy(to.pointer<void>(), &value, sizeof value);
}
EMU_DEVICE void emu_ptx_cp_async(emu_address to, emu_address from, int size) {
    if (size == 4)
        emu_copy_async<1>(to, from);
    else if (size == 8)
        emu_copy_async<2>(to, from);
    else if (size == 16)
        emu_copy_async<4>(to, from);
    else
        emu_fault("cp.async copies 4, 8 or 16 bytes, not %d", size);
}
EMU_DEVICE void emu_ptx_cp_async(emu_address to, emu_address from, int size, uint32_t available) {
    alignas(16) char bytes[16] = {};
    if (size != 4 && size != 8 && size != 16) emu_fault("cp.async copies 4, 8 or 16 bytes, not %d", size);
    if (available > (uint32_t)size) emu_fault("cp.async: %u bytes of a source of %d", available, size);
    if (from.value % (uint32_t)size) emu_fault("cp.async: an address is not aligned to %d bytes", size);
    for (uint32_t i = 0; i < available; i++) bytes[i] = from.pointer<const volatile char>()[i];
    emu_ptx_cp_async(to, bytes, size);
}
#define EMU_CP_ASYNC(NAME)                                                                                             \
    template <class... Sizes> EMU_DEVICE void NAME(int, emu_address to, emu_address from, Sizes... sizes) {            \
        emu_ptx_cp_async(to, from, sizes...);                                                                          \
    }
#define EMU_CP_ASYNCS(CACHE)                                                                                           \
    EMU_CP_ASYNC(emu_ptx_cp_async_##CACHE##_shared_global)                                                             \
    EMU_CP_ASYNC(emu_ptx_cp_async_##CACHE##_shared_global_L2__64B)                                                     \
    EMU_CP_ASYNC(emu_ptx_cp_async_##CACHE##_shared_global_L2__128B)                                                    \
    EMU_CP_ASYNC(emu_ptx_cp_async_##CACHE##_shared_global_L2__256B)
EMU_CP_ASYNCS(ca)
EMU_CP_ASYNCS(cg)
#undef EMU_CP_ASYNCS
#undef EMU_CP_ASYNC
EMU_DEVICE void emu_ptx_cp_async_commit_group(int) { emu_async_commit(); }
EMU_DEVICE void emu_ptx_cp_async_wait_group(int, int pending) { emu_async_wait((uint32_t)pending); }
EMU_DEVICE void emu_ptx_cp_async_wait_all(int) {
    emu_async_commit();
    emu_async_wait(0);
}

/* ldmatrix: matrices of 8 rows of 16 bytes; lane 8 m + r has the address of row r of matrix m. Lane l gets two neighbours
 * of 16 bits of row l / 4, or of column l / 4 if transposed. */
template <int count, bool transposed> EMU_DEVICE void emu_ldmatrix(uint32_t (&d)[count], emu_address row, int site) {
    uint32_t lane = emu_own_lane();
    if (lane < 8 * count && row.value % 16) emu_fault("ldmatrix: a row is not aligned to 16 bytes");
    uint64_t rows[EMU_WARP];
    if (emu_gather(0xffffffffu, row.value, rows, "ldmatrix", site) != 0xffffffffu)
        emu_fault("ldmatrix needs all 32 lanes of the warp");
    for (uint32_t m = 0; m < count; m++) {
        uint32_t across = lane / 4, along = lane % 4 * 2;
        if (transposed) {
            uint32_t low = emu_address::pointer_of<const uint16_t>(rows[8 * m + along])[across];
            uint32_t high = emu_address::pointer_of<const uint16_t>(rows[8 * m + along + 1])[across];
            d[m] = high << 16 | low;
        } else {
            d[m] = emu_address::pointer_of<const uint32_t>(rows[8 * m + across])[along / 2];
        }
    }
}
#define EMU_LDMATRIX(NAME, TRANSPOSED)                                                                                 \
    template <class D> EMU_DEVICE void emu_ptx_ldmatrix_sync_aligned_m8n8_x1##NAME(int site, D &a, emu_address row) {  \
        uint32_t d[1];                                                                                                 \
        emu_ldmatrix<1, TRANSPOSED>(d, row, site);                                                                     \
        a = emu_bits<D>(d[0]);                                                                                         \
    }                                                                                                                  \
    template <class D>                                                                                                 \
    EMU_DEVICE void emu_ptx_ldmatrix_sync_aligned_m8n8_x2##NAME(int site, D &a, D &b, emu_address row) {               \
        uint32_t d[2];                                                                                                 \
        emu_ldmatrix<2, TRANSPOSED>(d, row, site);                                                                     \
        a = emu_bits<D>(d[0]), b = emu_bits<D>(d[1]);                                                                  \
    }                                                                                                                  \
    template <class D>                                                                                                 \
    EMU_DEVICE void emu_ptx_ldmatrix_sync_aligned_m8n8_x4##NAME(int site, D &a, D &b, D &c, D &e, emu_address row) {   \
        uint32_t d[4];                                                                                                 \
        emu_ldmatrix<4, TRANSPOSED>(d, row, site);                                                                     \
        a = emu_bits<D>(d[0]), b = emu_bits<D>(d[1]), c = emu_bits<D>(d[2]), e = emu_bits<D>(d[3]);                    \
    }
EMU_LDMATRIX(_shared_b16, false)
EMU_LDMATRIX(_trans_shared_b16, true)
#undef EMU_LDMATRIX

#endif
