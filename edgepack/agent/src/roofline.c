/* `roofline`: how fast the board multiplies and adds, and reads and copies memory. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "board.h"
#include "clock.h"
#include "json.h"
#include "peaks.h"
#include "process.h"

enum { SAMPLES = 5, MOST_THREADS = 256, GRAIN = 1024 };
enum { KIB = 1024, MIB = 1024 * 1024 };

static const int64_t SAMPLE_NS = 10000000, STREAM_NS = 5000000;

/* What each of the threads does in a sample. */
struct work {
    struct peak peak;
    struct streams streams;
    char *memory; /* of all threads */
    size_t size;  /* of a thread's part */
    bool copy;
    int64_t rounds;
};

struct worker {
    const struct work *work;
    pthread_barrier_t *start;
    int number;
    int64_t began, ended;
};

static void do_rounds(const struct work *work, int number)
{
    if (work->peak.run != NULL) {
        work->peak.run(work->rounds);
        return;
    }
    char *part = work->memory + (size_t)number * work->size;
    for (int64_t round = 0; round < work->rounds; round++)
        if (work->copy)
            work->streams.copy(part, part + work->size / 2, work->size / 2);
        else
            work->streams.read(part, work->size);
}

static void *help(void *context)
{
    struct worker *worker = context;
    pthread_barrier_wait(worker->start);
    worker->began = now_ns();
    do_rounds(worker->work, worker->number);
    worker->ended = now_ns();
    return NULL;
}

/* The time from when the first thread begins its rounds until the last one ends: with fewer cores than threads, some begin
 * late. */
static bool time_rounds(const struct work *work, int threads, int64_t *ns, struct failure *failure)
{
    static struct worker workers[MOST_THREADS];
    static pthread_t handles[MOST_THREADS];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++) {
        workers[i] = (struct worker){.work = work, .start = &start, .number = i};
        if (i > 0 && pthread_create(&handles[i], NULL, help, &workers[i]) != 0)
            /* Those that have been started wait until the process ends, which is now. */
            return fail(failure, STATUS_INTERNAL, "%d threads cannot be started", threads);
    }
    help(&workers[0]);
    int64_t began = workers[0].began, ended = workers[0].ended;
    for (int i = 1; i < threads; i++) {
        pthread_join(handles[i], NULL);
        began = workers[i].began < began ? workers[i].began : began;
        ended = workers[i].ended > ended ? workers[i].ended : ended;
    }
    *ns = ended - began;
    pthread_barrier_destroy(&start);
    return true;
}

/* Rounds in a nanosecond, of all threads together: the best of a few samples that each take some time. A thread that had to
 * wait for its core makes a sample long, so that the samples after it may be too short again. */
static bool rate_of(struct work *work, int threads, int64_t least_ns, double *rate, struct failure *failure)
{
    *rate = 0;
    work->rounds = 1;
    for (int taken = 0; taken < SAMPLES;) {
        int64_t ns;
        if (!time_rounds(work, threads, &ns, failure))
            return false;
        const double found = (double)work->rounds * threads / (double)(ns > 0 ? ns : 1);
        if (found > *rate)
            *rate = found;
        if (ns < least_ns && work->rounds < INT64_C(1) << 40)
            work->rounds *= 2;
        else
            taken++;
    }
    return true;
}

/* Bytes of the largest cache of the first core; 16 MiB if the kernel does not say. */
static size_t largest_cache(void)
{
    long largest = 0;
    for (int index = 0; index < 8; index++) {
        char path[80], text[32];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
        if (board_read("", path, text, sizeof text) && atol(text) > largest) /* in KiB: "32768K" */
            largest = atol(text);
    }
    return largest > 0 ? (size_t)largest * KIB : 16 * MIB;
}

/* Four times the largest cache, and at most a quarter of the memory that is free. */
static size_t beyond_caches(void)
{
    const size_t wanted = 4 * largest_cache();
    const int64_t available = board_kib("", "/proc/meminfo", "MemAvailable");
    const size_t most = available > 0 ? (size_t)available * KIB / 4 : 64 * MIB;
    return wanted < most ? wanted : most;
}

struct found {
    double float32, int8; /* multiply-accumulates in a nanosecond */
    struct {
        int64_t bytes;
        double read, copy; /* bytes in a nanosecond */
    } memory[5];
    int levels;
};

static bool measure_memory(struct found *found, int threads, struct failure *failure)
{
    const size_t cached = largest_cache() / 4 * 3, largest = beyond_caches();
    const size_t sizes[] = {32 * KIB, 256 * KIB, 2 * MIB, cached, largest};
    const size_t grain = 2 * GRAIN * (size_t)threads; /* both halves of each thread's part */
    struct work work = {.streams = peak_streams()};
    work.memory = aligned_alloc(GRAIN, (largest / grain + 1) * grain);
    if (work.memory == NULL)
        return fail(failure, STATUS_INTERNAL, "out of memory: %zu bytes", largest);
    memset(work.memory, 1, (largest / grain + 1) * grain);
    bool good = true;
    for (size_t i = 0; good && i < sizeof sizes / sizeof sizes[0]; i++) {
        double read, copied;
        work.size = sizes[i] / grain * 2 * GRAIN;
        if (work.size == 0 || sizes[i] > largest || (i > 0 && sizes[i] <= sizes[i - 1]))
            continue; /* too many threads for it, or too little memory */
        work.copy = false;
        good = rate_of(&work, threads, STREAM_NS, &read, failure);
        work.copy = true;
        good = good && rate_of(&work, threads, STREAM_NS, &copied, failure);
        if (!good)
            break;
        found->memory[found->levels].bytes = (int64_t)work.size * threads;
        found->memory[found->levels].read = read * (double)work.size;
        found->memory[found->levels++].copy = copied * (double)work.size;
    }
    free(work.memory);
    return good;
}

static void write_peak(struct json *json, const char *key, const char *isa, double gmacs)
{
    json_open(json, key, '{');
    json_text(json, "isa", isa);
    json_real(json, "gmacs", gmacs);
    json_close(json, '}');
}

static bool write_found(const struct found *found, int threads, struct failure *failure)
{
    struct json json = {stdout, false};
    json_open(&json, NULL, '{');
    json_bool(&json, "ok", true);
    json_integer(&json, "protocol", PROTOCOL_VERSION);
    json_integer(&json, "threads", threads);
    write_peak(&json, "float32", peak_float32().isa, found->float32);
    write_peak(&json, "int8", peak_int8().isa, found->int8);
    json_open(&json, "memory", '[');
    for (int i = 0; i < found->levels; i++) {
        json_open(&json, NULL, '{');
        json_integer(&json, "bytes", found->memory[i].bytes);
        json_real(&json, "read_gbps", found->memory[i].read);
        json_real(&json, "copy_gbps", found->memory[i].copy);
        json_close(&json, '}');
    }
    json_close(&json, ']');
    return json_end(&json) || fail(failure, STATUS_OUTPUT, "stdout cannot be written: %s", strerror(errno));
}

bool roofline(const struct options *options, struct failure *failure)
{
    const int threads = (int)options->threads;
    struct work of_float32 = {.peak = peak_float32()}, of_int8 = {.peak = peak_int8()};
    struct found found = {0};
    if (!pin_cores(options->cores, options->core_count, failure) ||
        !rate_of(&of_float32, threads, SAMPLE_NS, &found.float32, failure) ||
        !rate_of(&of_int8, threads, SAMPLE_NS, &found.int8, failure) || !measure_memory(&found, threads, failure))
        return false;
    found.float32 *= (double)of_float32.peak.macs;
    found.int8 *= (double)of_int8.peak.macs;
    return write_found(&found, threads, failure);
}
