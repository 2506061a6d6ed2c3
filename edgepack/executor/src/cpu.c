#include "cpu.h"

#include <stdio.h>

#if defined(__x86_64__)
#include <cpuid.h>

static uint64_t enabled_states(void)
{
    uint32_t registers[4], low, high;
    const uint32_t osxsave = UINT32_C(1) << 27;
    if (!__get_cpuid(1, &registers[0], &registers[1], &registers[2], &registers[3]) || (registers[2] & osxsave) == 0)
        return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* CPUID has its bits, and the system keeps its registers: Intel's manual, volume 1, chapter 13 and 14. */
static bool has(const edgepack_feature *feature)
{
    uint32_t registers[4];
    if (!__get_cpuid_count(feature->leaf, feature->subleaf, &registers[0], &registers[1], &registers[2],
                           &registers[3]))
        return false;
    return (registers[feature->reg] & feature->mask) == feature->mask &&
           (feature->state == 0 || (enabled_states() & feature->state) == feature->state);
}

#else
#include <sys/auxv.h>

/* The leaf is AT_HWCAP or AT_HWCAP2. */
static bool has(const edgepack_feature *feature)
{
    return (getauxval(feature->leaf) & feature->mask) == feature->mask;
}
#endif

bool cpu_has(const edgepack_feature *features, char *missing, size_t size)
{
    size_t used = 0;
    missing[0] = '\0';
    for (; features->name != NULL; features++)
        if (!has(features) && used < size)
            used += (size_t)snprintf(missing + used, size - used, "%s%s", used > 0 ? ", " : "", features->name);
    return used == 0;
}
