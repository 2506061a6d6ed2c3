#include "check.h"

#include <stdatomic.h>
#include <time.h>

#ifndef FEATURES
#define FEATURES {0}
#endif

struct group {
    void *sync;
    int32_t tasks;
};

enum { OWN = 4096, PLANNED = 4 * OWN };

extern int (*__TVMBackendParallelLaunch)(int (*run)(int, struct group *, void *), void *closure, int tasks)
    __attribute__((weak));
extern void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) __attribute__((weak));
extern int (*__TVMBackendFreeWorkspace)(int, int, void *) __attribute__((weak));

_Atomic int made_waiting;

struct closure {
    int32_t what;
    int32_t *written;
};

static int inner(int task, struct group *group, void *data)
{
    (void)group;
    *(atomic_int *)data += task + 1;
    return 0;
}

static int outer(int task, struct group *group, void *data)
{
    const struct closure *closure = data;
    unsigned char *own[2];
    for (int i = 0; i < 2; i++) {
        own[i] = __TVMBackendAllocWorkspace(1, 0, OWN - 7, 0, 8);
        if (own[i] == NULL || (uintptr_t)own[i] % 64 != 0)
            return -1;
        memset(own[i], task + i, OWN - 7);
    }
    if (closure->what == FAIL && task % 2 == 1)
        return -1; /* as TVM's kernels do: without giving back */
    if (closure->what == TOO_MUCH && __TVMBackendAllocWorkspace(1, 0, 2 * OWN, 0, 8) == NULL)
        return -1;
    if (closure->what == WAIT && task == 1 && atomic_load(&made_waiting) == 0) {
        atomic_store(&made_waiting, 1);
        while (atomic_load(&made_waiting) == 1)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    atomic_int sum = 0;
    if (closure->what == NESTED && (__TVMBackendParallelLaunch(inner, &sum, 3) != 0 || sum != 6))
        return -1;
    closure->written[task] += own[0][5] + 1 + 1000 * group->tasks;
    __TVMBackendFreeWorkspace(1, 0, own[task % 2]); /* in any order */
    __TVMBackendFreeWorkspace(1, 0, own[1 - task % 2]);
    return 0;
}

static int32_t infer(void *const *in, void *const *out, const uint8_t *const *weights, uint8_t *arena)
{
    (void)weights, (void)arena;
    const int32_t *orders = in[0];
    struct closure closure = {orders[0], out[0]};
    for (int kernel = 0; kernel < 3; kernel++) {
        unsigned char *own = __TVMBackendAllocWorkspace(1, 0, OWN / 2, 0, 8);
        if (own == NULL)
            return -1;
        memset(own, 77, OWN / 2);
        memset(out[0], 0, MADE_TASKS * sizeof(int32_t));
        if (__TVMBackendParallelLaunch(outer, &closure, orders[1]) != 0)
            return -1;
        for (int i = 0; i < OWN / 2; i++)
            if (own[i] != 77)
                return -1;
        __TVMBackendFreeWorkspace(1, 0, own);
    }
    return 0;
}

static const int64_t two[] = {2}, many[] = {MADE_TASKS};
static const edgepack_tensor input = {"orders", 0, 32, 1, two, 8, 0, 0};
static const edgepack_tensor output = {"written", 0, 32, 1, many, 4 * MADE_TASKS, 0, 0};
static const edgepack_feature features[] = {FEATURES};
static const struct net_details details = {
    .name = "made",
    .runtime = &edgepack_runtime,
    .features = features,
    .input_count = 1,
    .output_count = 1,
    .inputs = &input,
    .outputs = &output,
    .infer = infer,
    .workspace = PLANNED,
};

const edgepack_net made = {EDGEPACK_NET_VERSION, &details};

edgepack_status run_made(edgepack_model *model, int what, int tasks, int32_t written[MADE_TASKS])
{
    const int32_t orders[] = {what, tasks};
    CHECK(edgepack_set_input(model, 0, orders, sizeof orders) == EDGEPACK_OK);
    const edgepack_status status = edgepack_run(model);
    memcpy(written, edgepack_output(model, 0), 4 * MADE_TASKS);
    return status;
}
