#include "cores.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum { ALIKE = 7 /* eighths of a speed from which another one is about the same: turbo frequencies differ a little */ };

static long read_number(const char *root, int core, const char *name)
{
    char text[4096];
    snprintf(text, sizeof text, "%s/sys/devices/system/cpu/cpu%d/%s", root, core, name);
    FILE *file = fopen(text, "re");
    if (file == NULL)
        return 0;
    if (fgets(text, sizeof text, file) == NULL)
        text[0] = '\0';
    fclose(file);
    return strtol(text, NULL, 10);
}

/* The speed of the core that is number `number` among the fastest. The C library's sorting is larger than the runtime. */
static long fast_one(const long *speeds, int count, int number)
{
    for (int i = 0; i < count; i++) {
        int faster = 0, alike = 0;
        for (int other = 0; other < count; other++) {
            faster += speeds[other] > speeds[i];
            alike += speeds[other] == speeds[i];
        }
        if (faster < number && number <= faster + alike)
            return speeds[i];
    }
    return 0;
}

/* How fast a core is, as Linux's scheduler sees it where there are several kinds, else by its highest frequency; in the
 * units of this machine. 0 if it is not known. */
static long speed_of(const char *root, int core)
{
    const long capacity = read_number(root, core, "cpu_capacity");
    return capacity > 0 ? capacity : read_number(root, core, "cpufreq/cpuinfo_max_freq");
}

bool cores_keep_fast(const char *root, int threads, cpu_set_t *cores)
{
    long speeds[CPU_SETSIZE], known[CPU_SETSIZE], slowest = LONG_MAX;
    int count = 0;
    for (int core = 0; core < CPU_SETSIZE; core++) {
        if (!CPU_ISSET(core, cores))
            continue;
        speeds[core] = speed_of(root, core);
        if (speeds[core] <= 0)
            return false;
        known[count++] = speeds[core];
        slowest = speeds[core] < slowest ? speeds[core] : slowest;
    }
    if (count <= threads)
        return false;
    const long least = fast_one(known, count, threads) / 8 * ALIKE;
    if (slowest >= least)
        return false;
    for (int core = 0; core < CPU_SETSIZE; core++)
        if (CPU_ISSET(core, cores) && speeds[core] < least)
            CPU_CLR(core, cores);
    return true;
}
