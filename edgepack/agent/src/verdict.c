#include "verdict.h"

#include <time.h>

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* The number of calls is increased until a sample is long enough. The first call is not counted, since it faults
 * pages in. */
bool take_samples(kernel_caller *call, void *kernel, int64_t repeats, double min_ms, struct verdict *verdict)
{
    verdict->calls = 1;
    if (!call(kernel, 1, &verdict->failure))
        return false;
    for (int64_t i = 0; i < repeats;) {
        const double start = now_ms();
        if (!call(kernel, verdict->calls, &verdict->failure))
            return false;
        const double ms = now_ms() - start;
        verdict->ms[i] = ms / (double)verdict->calls;
        if (ms >= min_ms) {
            i++;
            continue;
        }
        double wanted = 1.1 * (double)verdict->calls * min_ms / (ms > 1e-3 ? ms : 1e-3);
        double most = 100 * (double)verdict->calls; /* the first sample may be too short to be reliable */
        verdict->calls = 1 + (int64_t)(wanted < most ? wanted : most);
        i = 0; /* samples with different numbers of calls are not comparable */
    }
    return true;
}
