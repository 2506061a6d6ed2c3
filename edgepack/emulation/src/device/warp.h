/* What the lanes of a warp do together. A shuffle is one exchange of the driver; other operations publish the lane's
 * value, wait for the lanes of the mask, read the others' and wait again, so that none publishes its next too early. */
#ifndef EDGEPACK_EMULATION_DEVICE_WARP_H
#define EDGEPACK_EMULATION_DEVICE_WARP_H

#include "bfloat16.h"

/* The line of the source that calls: where lanes that do not meet are reported. */
#define EMU_SITE int site = __builtin_LINE()

EMU_DEVICE unsigned int __activemask(void) { return emu_active_lanes(); }
EMU_DEVICE void __syncwarp(unsigned int mask = 0xffffffffu, EMU_SITE) { emu_warp_barrier(mask, site); }

/* The values of all lanes that take part, and which these are: those of the mask that have not returned. */
EMU_DRIVER uint32_t emu_gather(unsigned int mask, uint64_t value, uint64_t (&values)[EMU_WARP], const char *what,
                               int site) {
    if (!(mask >> emu_own_lane() & 1)) emu_fault("%s: the mask 0x%08x leaves out the calling lane", what, mask);
    *(uint64_t *)emu_lane(emu_own_lane()) = value;
    emu_warp_barrier(mask, site);
    uint32_t members = mask & emu_active_lanes();
    for (uint32_t lane = 0; lane < EMU_WARP; lane++)
        values[lane] = members >> lane & 1 ? *(const uint64_t *)emu_lane(lane) : 0;
    emu_warp_barrier(mask, site);
    return members;
}

template <class T> EMU_DEVICE uint64_t emu_to_word(T value) {
    uint64_t word = 0;
    __builtin_memcpy(&word, &value, sizeof value);
    return word;
}
/* The value of a lane that does not take part is undefined, which is harmless unless it is used: garbage, NaN. */
template <class T> EMU_DEVICE T emu_shuffle(unsigned int mask, T value, uint32_t from, int site) {
    if (!emu_exchange(mask, site, from, &value, sizeof value)) __builtin_memset((void *)&value, 0xff, sizeof value);
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
        return emu_shuffle(mask, value, first + ((uint32_t)from & (uint32_t)(width - 1)), site);                       \
    }                                                                                                                  \
    EMU_DEVICE T __shfl_up_sync(unsigned int mask, T value, unsigned int delta, int width = EMU_WARP, EMU_SITE) {      \
        emu_check_width(width, "__shfl_up_sync");                                                                      \
        uint32_t lane = emu_own_lane(), place = lane & (uint32_t)(width - 1);                                          \
        return emu_shuffle(mask, value, place >= delta ? lane - delta : lane, site);                                   \
    }                                                                                                                  \
    EMU_DEVICE T __shfl_down_sync(unsigned int mask, T value, unsigned int delta, int width = EMU_WARP, EMU_SITE) {    \
        emu_check_width(width, "__shfl_down_sync");                                                                    \
        uint32_t lane = emu_own_lane(), place = lane & (uint32_t)(width - 1);                                          \
        bool inside = delta < (uint32_t)width - place;                                                                 \
        return emu_shuffle(mask, value, inside ? lane + delta : lane, site);                                           \
    }                                                                                                                  \
    EMU_DEVICE T __shfl_xor_sync(unsigned int mask, T value, int lanes, int width = EMU_WARP, EMU_SITE) {              \
        emu_check_width(width, "__shfl_xor_sync");                                                                     \
        uint32_t lane = emu_own_lane(), from = lane ^ ((uint32_t)lanes & 31), last = lane | (uint32_t)(width - 1);     \
        return emu_shuffle(mask, value, from <= last ? from : lane, site);                                             \
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

/* The lanes that take part, and those of them whose value is `value`. */
struct emu_votes {
    uint32_t members, same;
};
EMU_DEVICE emu_votes emu_vote(unsigned int mask, uint64_t own, uint64_t value, const char *what, int site) {
    uint64_t values[EMU_WARP];
    emu_votes votes = {emu_gather(mask, own, values, what, site), 0};
    for (uint32_t lane = 0; lane < EMU_WARP; lane++) votes.same |= (uint32_t)(values[lane] == value) << lane;
    votes.same &= votes.members;
    return votes;
}
EMU_DEVICE unsigned int __ballot_sync(unsigned int mask, int predicate, EMU_SITE) {
    return emu_vote(mask, predicate != 0, 1, "__ballot_sync", site).same;
}
EMU_DEVICE int __any_sync(unsigned int mask, int predicate, EMU_SITE) {
    return emu_vote(mask, predicate != 0, 1, "__any_sync", site).same != 0;
}
EMU_DEVICE int __all_sync(unsigned int mask, int predicate, EMU_SITE) {
    return emu_vote(mask, predicate != 0, 0, "__all_sync", site).same == 0;
}
#define EMU_MATCHES(T)                                                                                                 \
    EMU_DEVICE unsigned int __match_any_sync(unsigned int mask, T value, EMU_SITE) {                                   \
        return emu_vote(mask, emu_to_word(value), emu_to_word(value), "__match_any_sync", site).same;                  \
    }                                                                                                                  \
    EMU_DEVICE unsigned int __match_all_sync(unsigned int mask, T value, int *predicate, EMU_SITE) {                   \
        emu_votes votes = emu_vote(mask, emu_to_word(value), emu_to_word(value), "__match_all_sync", site);            \
        *predicate = votes.same == votes.members;                                                                      \
        return *predicate ? mask : 0;                                                                                  \
    }
EMU_MATCHES(int)
EMU_MATCHES(unsigned int)
EMU_MATCHES(long)
EMU_MATCHES(unsigned long)
EMU_MATCHES(long long)
EMU_MATCHES(unsigned long long)
EMU_MATCHES(float)
EMU_MATCHES(double)
#undef EMU_MATCHES

#define EMU_REDUCTION(NAME, T, EXPRESSION)                                                                             \
    EMU_DEVICE T NAME(unsigned int mask, T value, EMU_SITE) {                                                          \
        uint64_t values[EMU_WARP];                                                                                     \
        uint32_t members = emu_gather(mask, emu_to_word(value), values, #NAME, site);                                  \
        T a = (T)values[__builtin_ctz(members)];                                                                       \
        for (uint32_t rest = members & (members - 1); rest; rest &= rest - 1) {                                        \
            T b = (T)values[__builtin_ctz(rest)];                                                                      \
            a = (T)(EXPRESSION);                                                                                       \
        }                                                                                                              \
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
