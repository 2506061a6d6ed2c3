/* What the lanes of a warp do together. Each operation publishes the lane's value, waits for the lanes of its mask, reads
 * the others' and waits again, so that no lane publishes its next value too early. */
#ifndef EDGEPACK_EMULATION_DEVICE_WARP_H
#define EDGEPACK_EMULATION_DEVICE_WARP_H

#include "bfloat16.h"

/* The line of the source that calls: where lanes that do not meet are reported. */
#define EMU_SITE int site = __builtin_LINE()

EMU_DEVICE unsigned int __activemask(void) { return emu_active_lanes(); }
EMU_DEVICE void __syncwarp(unsigned int mask = 0xffffffffu, EMU_SITE) { emu_warp_barrier(mask, site); }

template <class T> EMU_DEVICE void emu_publish(const T &value) {
    static_assert(sizeof(T) <= 16, "lanes exchange up to 16 bytes");
    memcpy(emu_lane(emu_own_lane()), &value, sizeof value);
}
template <class T> EMU_DEVICE T emu_published(uint32_t lane) {
    T value;
    memcpy(&value, emu_lane(lane), sizeof value);
    return value;
}

/* The lanes of `mask` that take part: those that exist and have not returned. */
EMU_DEVICE uint32_t emu_members(unsigned int mask, const char *what) {
    if (!(mask >> emu_own_lane() & 1)) emu_fault("%s: the mask 0x%08x leaves out the calling lane", what, mask);
    return mask & emu_active_lanes();
}

template <class T> EMU_DEVICE T emu_shuffle(unsigned int mask, T value, uint32_t from, int site) {
    /* The value of a lane that does not take part is undefined, which is harmless unless it is used: garbage, NaN. */
    if (!emu_exchange(mask, site, from, &value, sizeof value)) memset((void *)&value, 0xff, sizeof value);
    return value;
}

EMU_DEVICE void emu_check_width(int width, const char *what) {
    if (width < 1 || width > EMU_WARP || (width & (width - 1)))
        emu_fault("%s: the width %d is not a power of two up to 32", what, width);
}

#define EMU_SHUFFLES(T)                                                                                                \
    EMU_DEVICE T __shfl_sync(unsigned int mask, T value, int from, int width = EMU_WARP, EMU_SITE) {                   \
        emu_check_width(width, "__shfl_sync");                                                                         \
        uint32_t first = emu_own_lane() & (uint32_t)-width;                                                            \
        return emu_shuffle(mask, value, first + ((uint32_t)from & (uint32_t)(width - 1)), site);        \
    }                                                                                                                  \
    EMU_DEVICE T __shfl_up_sync(unsigned int mask, T value, unsigned int delta, int width = EMU_WARP, EMU_SITE) {      \
        emu_check_width(width, "__shfl_up_sync");                                                                      \
        uint32_t lane = emu_own_lane(), place = lane & (uint32_t)(width - 1);                                          \
        return emu_shuffle(mask, value, place >= delta ? lane - delta : lane, site);                 \
    }                                                                                                                  \
    EMU_DEVICE T __shfl_down_sync(unsigned int mask, T value, unsigned int delta, int width = EMU_WARP, EMU_SITE) {    \
        emu_check_width(width, "__shfl_down_sync");                                                                    \
        uint32_t lane = emu_own_lane(), place = lane & (uint32_t)(width - 1);                                          \
        bool inside = delta < (uint32_t)width - place;                                                                 \
        return emu_shuffle(mask, value, inside ? lane + delta : lane, site);                       \
    }                                                                                                                  \
    EMU_DEVICE T __shfl_xor_sync(unsigned int mask, T value, int lanes, int width = EMU_WARP, EMU_SITE) {              \
        emu_check_width(width, "__shfl_xor_sync");                                                                     \
        uint32_t lane = emu_own_lane(), from = lane ^ ((uint32_t)lanes & 31), last = lane | (uint32_t)(width - 1);     \
        return emu_shuffle(mask, value, from <= last ? from : lane, site);                          \
    }
EMU_SHUFFLES(int)
EMU_SHUFFLES(unsigned int)
EMU_SHUFFLES(long)
EMU_SHUFFLES(unsigned long)
EMU_SHUFFLES(long long)
EMU_SHUFFLES(unsigned long long)
EMU_SHUFFLES(float)
EMU_SHUFFLES(double)
EMU_SHUFFLES(half)
EMU_SHUFFLES(half2)
EMU_SHUFFLES(nv_bfloat16)
EMU_SHUFFLES(nv_bfloat162)
#undef EMU_SHUFFLES

/* The lanes of the mask whose published value is `value`. */
template <class T> EMU_DEVICE unsigned int emu_match(unsigned int mask, T value, const char *what, int site) {
    uint32_t members = emu_members(mask, what), same = 0;
    emu_publish(value);
    emu_warp_barrier(mask, site);
    for (uint32_t lane = 0; lane < EMU_WARP; lane++)
        if (members >> lane & 1) same |= (uint32_t)(emu_published<T>(lane) == value) << lane;
    emu_warp_barrier(mask, site);
    return same;
}
EMU_DEVICE unsigned int __ballot_sync(unsigned int mask, int predicate, EMU_SITE) {
    uint32_t same = emu_match<int>(mask, predicate != 0, "__ballot_sync", site);
    return predicate ? same : mask & emu_active_lanes() & ~same;
}
EMU_DEVICE int __any_sync(unsigned int mask, int predicate, EMU_SITE) {
    return __ballot_sync(mask, predicate, site) != 0;
}
EMU_DEVICE int __all_sync(unsigned int mask, int predicate, EMU_SITE) {
    return __ballot_sync(mask, !predicate, site) == 0;
}
#define EMU_MATCHES(T, BITS)                                                                                           \
    EMU_DEVICE unsigned int __match_any_sync(unsigned int mask, T value, EMU_SITE) {                                   \
        return emu_match(mask, emu_bits<BITS>(value), "__match_any_sync", site);                                       \
    }                                                                                                                  \
    EMU_DEVICE unsigned int __match_all_sync(unsigned int mask, T value, int *predicate, EMU_SITE) {                   \
        uint32_t same = emu_match(mask, emu_bits<BITS>(value), "__match_all_sync", site);                              \
        *predicate = same == (mask & emu_active_lanes());                                                              \
        return *predicate ? mask : 0;                                                                                  \
    }
EMU_MATCHES(int, uint32_t)
EMU_MATCHES(unsigned int, uint32_t)
EMU_MATCHES(long, uint64_t)
EMU_MATCHES(unsigned long, uint64_t)
EMU_MATCHES(long long, uint64_t)
EMU_MATCHES(unsigned long long, uint64_t)
EMU_MATCHES(float, uint32_t)
EMU_MATCHES(double, uint64_t)
#undef EMU_MATCHES

#define EMU_REDUCTION(NAME, T, EXPRESSION)                                                                             \
    EMU_DEVICE T NAME(unsigned int mask, T value, EMU_SITE) {                                                          \
        uint32_t members = emu_members(mask, #NAME);                                                                   \
        emu_publish(value);                                                                                            \
        emu_warp_barrier(mask, site);                                                                                  \
        T a = emu_published<T>((uint32_t)__builtin_ctz(members));                                                      \
        for (uint32_t rest = members & (members - 1); rest; rest &= rest - 1) {                                        \
            T b = emu_published<T>((uint32_t)__builtin_ctz(rest));                                                     \
            a = (T)(EXPRESSION);                                                                                       \
        }                                                                                                              \
        emu_warp_barrier(mask, site);                                                                                  \
        return a;                                                                                                      \
    }
EMU_REDUCTION(__reduce_add_sync, unsigned int, a + b)
EMU_REDUCTION(__reduce_add_sync, int, (unsigned int)a + (unsigned int)b)
EMU_REDUCTION(__reduce_min_sync, unsigned int, a < b ? a : b)
EMU_REDUCTION(__reduce_min_sync, int, a < b ? a : b)
EMU_REDUCTION(__reduce_max_sync, unsigned int, a < b ? b : a)
EMU_REDUCTION(__reduce_max_sync, int, a < b ? b : a)
EMU_REDUCTION(__reduce_and_sync, unsigned int, a & b)
EMU_REDUCTION(__reduce_or_sync, unsigned int, a | b)
EMU_REDUCTION(__reduce_xor_sync, unsigned int, a ^ b)
#undef EMU_REDUCTION

#endif
