/* Kernels that measure a machine's limits, and the barrier they start at; limits.py adds the arithmetic ones. */
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

typedef void kernel(void *, long);

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Waits until as many threads as `threads` are here, then runs the kernel; span: start and end, ns. */
void timed(kernel *run, void *state, long steps, atomic_int *arrived, int threads, int64_t *span)
{
    atomic_fetch_add(arrived, 1);
    while (atomic_load(arrived) < threads) {
    }
    span[0] = now();
    run(state, steps);
    span[1] = now();
}

struct stream {
    float *a, *b, *c;
    long count; /* floats, a multiple of 128 */
    double sum;
};

typedef float wide __attribute__((vector_size(64)));

void triad(void *state, long steps)
{
    struct stream *s = state;
    for (long step = 0; step < steps; step++) {
        wide *a = (wide *)s->a, *b = (wide *)s->b, *c = (wide *)s->c;
        for (long i = 0; i < s->count / 16; i++)
            __builtin_nontemporal_store(b[i] + 3.0f * c[i], a + i);
        __asm__ volatile("" ::: "memory"); /* each pass counts */
    }
}

void read_all(void *state, long steps)
{
    struct stream *s = state;
    s->sum = 0;
    for (long step = 0; step < steps; step++) {
        wide *a = (wide *)s->a, sums[8] = {0};
        for (long i = 0; i < s->count / 16; i += 8)
            for (int k = 0; k < 8; k++)
                sums[k] += a[i + k];
        for (int k = 0; k < 8; k++)
            for (int lane = 0; lane < 16; lane++)
                s->sum += sums[k][lane];
        __asm__ volatile("" ::: "memory");
    }
}
