#include "cores.h"

#include <stdio.h>
#include <stdlib.h>

enum { ALIKE = 7 /* eighths of a speed from which another one is about the same: turbo frequencies differ a little */ };

static long read_number(const char *root, int core, const char *name)
{
    char path[4096];
    long number = 0;
    snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%d/%s", root, core, name);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%ld", &number) != 1)
        number = 0;
    fclose(file);
    return number;
}

static int slower_last(const void *one, const void *other)
{
    const long a = *(const long *)one, b = *(const long *)other;
    return a > b ? -1 : a < b;
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
    long speeds[CPU_SETSIZE], sorted[CPU_SETSIZE];
    int count = 0;
    for (int core = 0; core < CPU_SETSIZE; core++) {
        if (!CPU_ISSET(core, cores))
            continue;
        speeds[core] = speed_of(root, core);
        if (speeds[core] <= 0)
            return false;
        sorted[count++] = speeds[core];
    }
    if (count <= threads)
        return false;
    qsort(sorted, (size_t)count, sizeof sorted[0], slower_last);
    const long least = sorted[threads - 1] / 8 * ALIKE;
    if (sorted[count - 1] >= least)
        return false;
    for (int core = 0; core < CPU_SETSIZE; core++)
        if (CPU_ISSET(core, cores) && speeds[core] < least)
            CPU_CLR(core, cores);
    return true;
}
