/* Tests of the runtime, linked with a compiled model: driver COMMAND WEIGHTS [WORD...]. What is not so ends it with 1. */
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern const edgepack_net edgepack_this_net;
static const edgepack_net *const net = &edgepack_this_net;
static const char *weights;

static edgepack_model *opened(const edgepack_net *of, int threads)
{
    char why[EDGEPACK_TEXT] = "";
    edgepack_model *model = NULL;
    if (edgepack_open(of, weights, threads, &model, why) != EDGEPACK_OK) {
        fprintf(stderr, "%s\n", why);
        exit(1);
    }
    return model;
}

static float *values(int seed)
{
    const size_t count = edgepack_input_info(net, 0)->size / sizeof(float);
    float *made_up = malloc(count * sizeof *made_up);
    CHECK(made_up != NULL);
    uint32_t state = 2463534242u + (uint32_t)seed;
    for (size_t i = 0; i < count; i++) {
        state ^= state << 13, state ^= state >> 17, state ^= state << 5;
        made_up[i] = (float)(int32_t)state / 2147483648.f;
    }
    return made_up;
}

/* Runs the model, and returns copies of all outputs, one after the other. */
static uint8_t *result(edgepack_model *model, int seed, size_t *size)
{
    float *x = values(seed);
    CHECK(edgepack_set_input(model, 0, x, edgepack_input_info(net, 0)->size) == EDGEPACK_OK);
    free(x);
    CHECK(edgepack_run(model) == EDGEPACK_OK);
    *size = 0;
    uint8_t *copies = NULL;
    for (int i = 0; i < edgepack_output_count(net); i++) {
        const size_t own = edgepack_output_info(net, i)->size;
        copies = realloc(copies, *size + own);
        CHECK(copies != NULL);
        memcpy(copies + *size, edgepack_output(model, i), own);
        *size += own;
    }
    return copies;
}

static void check_result(edgepack_model *model, int seed, const uint8_t *expected, size_t expected_size)
{
    size_t size;
    uint8_t *found = result(model, seed, &size);
    CHECK(size == expected_size && memcmp(found, expected, size) == 0);
    free(found);
}

static int entries(const char *folder)
{
    int count = 0;
    DIR *all = opendir(folder);
    CHECK(all != NULL);
    while (readdir(all) != NULL)
        count++;
    closedir(all);
    return count;
}

static int entries_at_start; /* a sanitizer may have a thread, which it starts with the first one */

static void *nothing(void *data)
{
    return data;
}

/* Whether there are this many threads; those that have been joined may be listed for a moment. */
static void check_threads(int expected)
{
    const int wanted = entries_at_start + expected - 1;
    for (int patience = 0; patience < 1000 && entries("/proc/self/task") != wanted; patience++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    CHECK(entries("/proc/self/task") == wanted);
}

static void arguments(void)
{
    char why[EDGEPACK_TEXT] = "";
    edgepack_model *model = (edgepack_model *)&why;
    CHECK(edgepack_open(NULL, weights, 1, &model, why) == EDGEPACK_ARGUMENT && model == NULL && why[0] != 0);
    CHECK(edgepack_open(net, weights, 1, NULL, why) == EDGEPACK_ARGUMENT);
    CHECK(edgepack_open(net, weights, 0, &model, NULL) == EDGEPACK_ARGUMENT);
    CHECK(edgepack_open(net, weights, -1, &model, why) == EDGEPACK_ARGUMENT && strstr(why, "threads"));
    CHECK(edgepack_open(net, weights, 100000, &model, why) == EDGEPACK_ARGUMENT);
    CHECK(edgepack_open(net, NULL, 1, &model, why) == EDGEPACK_ARGUMENT && strstr(why, "none is given"));
    CHECK(edgepack_open(net, NULL, 1, &model, NULL) == EDGEPACK_ARGUMENT && model == NULL);

    const edgepack_net newer = {EDGEPACK_NET_VERSION + 1, NULL};
    CHECK(edgepack_open(&newer, weights, 1, &model, why) == EDGEPACK_OTHER_RUNTIME && strstr(why, "version"));
    struct net_details details = *net->details;
    details.runtime = why;
    const edgepack_net other = {EDGEPACK_NET_VERSION, &details};
    CHECK(edgepack_open(&other, weights, 1, &model, why) == EDGEPACK_OTHER_RUNTIME && strstr(why, "of its own"));

    CHECK(edgepack_input_count(NULL) == 0 && edgepack_output_count(NULL) == 0);
    CHECK(edgepack_input_info(NULL, 0) == NULL && edgepack_output_info(NULL, 0) == NULL);
    CHECK(edgepack_input_info(net, -1) == NULL && edgepack_input_info(net, 1) == NULL);
    CHECK(edgepack_output_info(net, -1) == NULL && edgepack_output_info(net, 3) == NULL);

    CHECK(edgepack_open(net, weights, 2, &model, why) == EDGEPACK_OK);
    const size_t in = edgepack_input_info(net, 0)->size, out = edgepack_output_info(net, 0)->size;
    uint8_t *memory = aligned_alloc(64, (in + out + 128) / 64 * 64);
    CHECK(memory != NULL);
    CHECK(edgepack_run(NULL) == EDGEPACK_ARGUMENT && edgepack_output(NULL, 0) == NULL);
    CHECK(edgepack_set_input(NULL, 0, memory, in) == EDGEPACK_ARGUMENT);
    CHECK(edgepack_set_input(model, 0, NULL, in) == EDGEPACK_ARGUMENT);
    CHECK(edgepack_set_input(model, 0, memory, in - 1) == EDGEPACK_ARGUMENT);
    CHECK(edgepack_set_input(model, 0, memory, in + 1) == EDGEPACK_ARGUMENT);
    CHECK(edgepack_set_input(model, -1, memory, in) == EDGEPACK_ARGUMENT);
    CHECK(edgepack_set_input(model, 1, memory, in) == EDGEPACK_ARGUMENT);
    CHECK(edgepack_bind_input(NULL, 0, memory, in) == EDGEPACK_ARGUMENT);
    CHECK(edgepack_bind_input(model, 0, memory + 4, in) == EDGEPACK_ARGUMENT);
    CHECK(edgepack_bind_input(model, 0, memory, in - 1) == EDGEPACK_ARGUMENT);
    CHECK(edgepack_bind_output(NULL, 0, memory, out) == EDGEPACK_ARGUMENT);
    CHECK(edgepack_bind_output(model, 3, memory, out) == EDGEPACK_ARGUMENT);
    CHECK(edgepack_bind_output(model, 0, memory, in) == EDGEPACK_ARGUMENT);
    CHECK(edgepack_output(model, -1) == NULL && edgepack_output(model, 3) == NULL);
    free(memory);
    edgepack_close(model);
    edgepack_close(NULL);
}

static void binding(void)
{
    size_t size;
    edgepack_model *model = opened(net, 2);
    const size_t in = edgepack_input_info(net, 0)->size, out = edgepack_output_info(net, 0)->size;
    uint8_t *expected = result(model, 1, &size), *x = aligned_alloc(64, (in + 63) / 64 * 64);
    uint8_t *y = aligned_alloc(64, (out + 63) / 64 * 64);
    CHECK(x != NULL && y != NULL);
    float *given = values(1);
    memcpy(x, given, in);
    free(given);
    free(result(model, 2, &size));
    CHECK(edgepack_bind_input(model, 0, x, in) == EDGEPACK_OK && edgepack_bind_output(model, 0, y, out) == EDGEPACK_OK);
    CHECK(edgepack_run(model) == EDGEPACK_OK && edgepack_output(model, 0) == y);
    CHECK(memcmp(y, expected, out) == 0);
    CHECK(edgepack_bind_input(model, 0, NULL, in) == EDGEPACK_OK);
    CHECK(edgepack_bind_output(model, 0, NULL, out) == EDGEPACK_OK && edgepack_output(model, 0) != y);
    free(x), free(y);
    check_result(model, 1, expected, size);
    free(expected);
    edgepack_close(model);
}

static void profile(void)
{
    const int count = edgepack_kernel_count(net);
    struct timespec before, after;
    uint64_t *times = malloc(((size_t)count + 1) * sizeof *times);
    size_t size;
    edgepack_model *model = opened(net, 2);
    uint8_t *expected = result(model, 1, &size);
    CHECK(times != NULL && count > 3);
    free(result(model, 2, &size));
    float *x = values(1);
    CHECK(edgepack_set_input(model, 0, x, edgepack_input_info(net, 0)->size) == EDGEPACK_OK);
    free(x);
    times[count] = 12345;
    clock_gettime(CLOCK_MONOTONIC, &before);
    CHECK(edgepack_profile(model, times) == EDGEPACK_OK);
    clock_gettime(CLOCK_MONOTONIC, &after);
    CHECK(times[count] == 12345 && memcmp(edgepack_output(model, 0), expected, edgepack_output_info(net, 0)->size) == 0);
    uint64_t sum = 0;
    for (int i = 0; i < count; i++) {
        printf("%s %llu\n", edgepack_kernel_name(net, i), (unsigned long long)times[i]);
        sum += times[i];
    }
    const int64_t all = (after.tv_sec - before.tv_sec) * INT64_C(1000000000) + after.tv_nsec - before.tv_nsec;
    CHECK(sum > 0 && (int64_t)sum <= all);
    CHECK(edgepack_profile(NULL, times) == EDGEPACK_ARGUMENT && edgepack_profile(model, NULL) == EDGEPACK_ARGUMENT);
    CHECK(edgepack_kernel_count(NULL) == 0 && edgepack_kernel_name(NULL, 0) == NULL);
    CHECK(edgepack_kernel_name(net, -1) == NULL && edgepack_kernel_name(net, count) == NULL);
    free(times), free(expected);
    edgepack_close(model);
}

static void threads(void)
{
    const int counts[] = {1, 2, 3, 5, 40};
    size_t size;
    edgepack_model *one = opened(net, 1);
    check_threads(1);
    for (int seed = 0; seed < 3; seed++) {
        uint8_t *expected = result(one, seed, &size);
        for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
            edgepack_model *model = opened(net, counts[i]);
            for (int again = 0; again < 3; again++)
                check_result(model, seed, expected, size);
            edgepack_close(model);
        }
        free(expected);
    }
    edgepack_close(one);
    check_threads(1);
}

static uint8_t *expected_result;
static size_t expected_size;

static void *open_run_close(void *times)
{
    for (int i = 0; i < *(int *)times; i++) {
        edgepack_model *model = opened(net, 1 + i % 3);
        if (expected_result != NULL)
            check_result(model, 7, expected_result, expected_size);
        edgepack_close(model);
    }
    return NULL;
}

static void at_once(int times)
{
    pthread_t several[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&several[i], NULL, open_run_close, &times) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(several[i], NULL);
}

static void own_instances(void)
{
    at_once(1); /* the first that are opened in this process */
    edgepack_model *model = opened(net, 1);
    expected_result = result(model, 7, &expected_size);
    edgepack_close(model);
    at_once(50);
    free(expected_result);
    check_threads(1);
}

/* A model that is handed from thread to thread, each of which ends after its turn. */
static void *one_turn(void *model)
{
    check_result(model, 7, expected_result, expected_size);
    return NULL;
}

static void handed_on(void)
{
    edgepack_model *model = opened(net, 3);
    expected_result = result(model, 7, &expected_size);
    for (int i = 0; i < 20; i++) {
        pthread_t next;
        CHECK(pthread_create(&next, NULL, one_turn, model) == 0);
        pthread_join(next, NULL);
    }
    free(expected_result);
    edgepack_close(model);
}

static void *run_waiting(void *model)
{
    int32_t written[MADE_TASKS];
    CHECK(run_made(model, WAIT, 3, written) == EDGEPACK_OK);
    atomic_store(&made_waiting, 0);
    return NULL;
}

static void await_waiting(void)
{
    while (atomic_load(&made_waiting) != 1)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void busy(void)
{
    const int32_t orders[] = {PLAIN, 1};
    for (int count = 1; count <= 3; count += 2) {
        int32_t written[MADE_TASKS];
        edgepack_model *model = opened(&made, count);
        pthread_t other;
        CHECK(pthread_create(&other, NULL, run_waiting, model) == 0);
        await_waiting();
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL); /* the other threads sleep by now */
        CHECK(edgepack_run(model) == EDGEPACK_BUSY);
        CHECK(edgepack_set_input(model, 0, orders, sizeof orders) == EDGEPACK_BUSY);
        CHECK(edgepack_bind_input(model, 0, NULL, sizeof orders) == EDGEPACK_BUSY);
        CHECK(edgepack_bind_output(model, 0, NULL, 4 * MADE_TASKS) == EDGEPACK_BUSY);
        atomic_store(&made_waiting, 2);
        pthread_join(other, NULL);
        CHECK(run_made(model, PLAIN, 3, written) == EDGEPACK_OK);
        edgepack_close(model);
    }
}

static void check_tasks(const int32_t written[MADE_TASKS], int tasks)
{
    for (int task = 0; task < MADE_TASKS; task++)
        CHECK(written[task] == (task < tasks ? task + 1 + 1000 * tasks : 0));
}

static void pool(void)
{
    for (int count = 1; count <= 5; count++) {
        edgepack_model *model = opened(&made, count);
        check_threads(count);
        int32_t written[MADE_TASKS];
        for (int tasks = 1; tasks <= MADE_TASKS; tasks++) { /* also fewer than threads */
            CHECK(run_made(model, PLAIN, tasks, written) == EDGEPACK_OK);
            check_tasks(written, tasks);
        }
        CHECK(run_made(model, PLAIN, 0, written) == EDGEPACK_OK);
        check_tasks(written, count);
        for (int again = 0; again < 3; again++) { /* a failure leaves nothing behind */
            CHECK(run_made(model, FAIL, 7, written) == EDGEPACK_MEMORY);
            CHECK(run_made(model, TOO_MUCH, 7, written) == EDGEPACK_MEMORY);
            CHECK(run_made(model, PLAIN, 7, written) == EDGEPACK_OK);
            check_tasks(written, 7);
            CHECK(run_made(model, NESTED, 7, written) == EDGEPACK_OK);
            check_tasks(written, 7);
        }
        for (int again = 0; again < 200; again++) { /* with and without threads that have gone to sleep */
            CHECK(run_made(model, PLAIN, 1 + again % 9, written) == EDGEPACK_OK);
            if (again % 50 == 0)
                nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        }
        edgepack_close(model);
    }
    check_threads(1);
}

/* Ends the process at any system call but those that wake threads, let them wait, write, and end; threads that have not
 * begun yet may begin. */
static void forbid_system_calls(void)
{
    static const unsigned allowed[] = {SYS_futex, SYS_write,           SYS_exit_group,       SYS_rseq,
                                       SYS_set_robust_list, SYS_rt_sigprocmask, SYS_sched_setaffinity};
    enum { COUNT = sizeof allowed / sizeof allowed[0] };
    struct sock_filter filter[COUNT + 3] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
    for (unsigned i = 0; i < COUNT; i++)
        filter[1 + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], COUNT - i, 0);
    filter[COUNT + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    filter[COUNT + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    const struct sock_fprog program = {COUNT + 3, filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0);
}

static void system_calls(void)
{
    const size_t size = edgepack_input_info(net, 0)->size;
    edgepack_model *one = opened(net, 1), *three = opened(net, 3);
    float *x = values(1);
    uint64_t *times = malloc(((size_t)edgepack_kernel_count(net) + 1) * sizeof *times);
    CHECK(times != NULL);
    forbid_system_calls();
    for (int i = 0; i < 50; i++) {
        edgepack_model *model = i % 2 == 0 ? one : three;
        CHECK(edgepack_set_input(model, 0, x, size) == EDGEPACK_OK && edgepack_run(model) == EDGEPACK_OK);
        CHECK(edgepack_profile(model, times) == EDGEPACK_OK && edgepack_output(model, 0) != NULL);
    }
    CHECK(write(1, "good\n", 5) == 5);
    _exit(0);
}

static void idle(void)
{
    /* Neither workers without work nor the caller with slow workers take the processor. */
    edgepack_model *model = opened(&made, 4);
    pthread_t other;
    CHECK(pthread_create(&other, NULL, run_waiting, model) == 0);
    await_waiting();
    struct timespec before, after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    atomic_store(&made_waiting, 2);
    pthread_join(other, NULL);
    edgepack_close(model);
    const double used = (double)(after.tv_sec - before.tv_sec) + 1e-9 * (double)(after.tv_nsec - before.tv_nsec);
    CHECK(used < 0.15); /* a thread that spins would take 0.3 s */
}

static void check_child(pid_t child)
{
    int status = 0;
    CHECK(child > 0);
    for (int patience = 0; patience < 2000; patience++) {
        if (waitpid(child, &status, WNOHANG) == child) {
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
            return;
        }
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    CHECK(!"the child hangs");
}

static void forked(void)
{
    size_t size;
    edgepack_model *model = opened(net, 3);
    uint8_t *expected = result(model, 3, &size);
    pid_t child = fork();
    if (child == 0) {
        check_result(model, 3, expected, size);
        edgepack_close(model);
        model = opened(net, 2); /* with threads of its own */
        check_threads(2);
        check_result(model, 3, expected, size);
        edgepack_close(model);
        free(expected);
        _exit(0);
    }
    check_child(child);
    check_result(model, 3, expected, size);
    free(expected);
    edgepack_close(model);

    /* While another thread runs the model, which does not go on in the child. */
    edgepack_model *slow = opened(&made, 3);
    pthread_t other;
    CHECK(pthread_create(&other, NULL, run_waiting, slow) == 0);
    await_waiting();
    child = fork();
    if (child == 0) {
        int32_t written[MADE_TASKS];
        CHECK(run_made(slow, PLAIN, 0, written) == EDGEPACK_OK);
        check_tasks(written, 3); /* as many as in the parent: the same bits */
        edgepack_close(slow);
        _exit(0);
    }
    check_child(child);
    atomic_store(&made_waiting, 2);
    pthread_join(other, NULL);
    edgepack_close(slow);
}

static bool is_mapped(const char *path)
{
    char line[4096];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL)
        found = found || strstr(line, path) != NULL;
    fclose(maps);
    return found;
}

static uint8_t *read_whole(const char *path, size_t *size)
{
    struct stat status;
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL && fstat(fileno(file), &status) == 0);
    *size = (size_t)status.st_size;
    uint8_t *data = malloc(*size);
    CHECK(data != NULL && fread(data, 1, *size, file) == *size);
    fclose(file);
    return data;
}

/* A file in memory at an offset from where it is aligned. */
static uint8_t *file_in_memory(size_t offset, size_t *size)
{
    uint8_t *whole = read_whole(weights, size), *moved = aligned_alloc(64, (*size + 2 * 64) / 64 * 64);
    CHECK(moved != NULL);
    memcpy(moved + offset, whole, *size);
    free(whole);
    return moved;
}

/* Weights in the file, in memory, and in memory where they cannot be used in place. */
static void sources(void)
{
    char why[EDGEPACK_TEXT] = "";
    size_t size, file_size;
    uint64_t in_place = 0;
    for (uint32_t i = 0; i < net->details->stored_count; i++)
        if (net->details->stored[i].place == WEIGHT_IN_PLACE)
            in_place += net->details->stored[i].size;
    CHECK(in_place > 50000 && net->details->own < 400000);
    edgepack_model *model = opened(net, 2);
    uint8_t *expected = result(model, 1, &size);
    CHECK(is_mapped(weights));
    edgepack_close(model);
    CHECK(!is_mapped(weights));
    for (size_t offset = 0; offset < 64; offset += 21) {
        uint8_t *data = file_in_memory(offset, &file_size);
        CHECK(edgepack_open_memory(net, data + offset, file_size, 2, &model, why) == EDGEPACK_OK);
        check_result(model, 1, expected, size);
        edgepack_close(model);
        data[offset + file_size / 2] ^= 1;
        CHECK(edgepack_open_memory(net, data + offset, file_size, 1, &model, why) == EDGEPACK_WEIGHTS && model == NULL);
        CHECK(strstr(why, "weights in memory: ") == why && strstr(why, "damaged"));
        data[offset + file_size / 2] ^= 1;
        CHECK(edgepack_open_memory(net, data + offset, file_size - 1, 1, &model, why) == EDGEPACK_WEIGHTS);
        CHECK(edgepack_open_memory(net, data + offset, 0, 1, &model, why) == EDGEPACK_WEIGHTS);
        free(data);
    }
    CHECK(edgepack_open_memory(net, NULL, 5, 1, &model, why) == EDGEPACK_ARGUMENT && model == NULL && strstr(why, "given"));
    CHECK(edgepack_open_memory(net, why, 5, 1, NULL, why) == EDGEPACK_ARGUMENT);
    CHECK(edgepack_open_memory(NULL, why, 5, 1, &model, why) == EDGEPACK_ARGUMENT);
    free(expected);
}

/* The bytes of address space in use. */
static long address_space(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%ld", &pages) == 1);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

enum { SLACK = 1 << 18 /* bytes by which the C library's heap may grow or shrink */ };

static void memory(void)
{
    static char why[EDGEPACK_TEXT];
    struct rlimit limit;
    edgepack_close(opened(net, 2)); /* what the C library keeps is there from now on */
    CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
    const rlim_t most = limit.rlim_max;
    const long before = address_space();
    const int files = entries("/proc/self/fd");
    int failures = 0, status;
    for (long more = 0;; more += 8192) {
        edgepack_model *model = NULL;
        limit.rlim_cur = (rlim_t)(before + more);
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
        why[0] = '\0';
        status = edgepack_open(net, weights, 2, &model, why);
        const bool made_it = status == EDGEPACK_OK && edgepack_run(model) == EDGEPACK_OK;
        edgepack_close(model);
        limit.rlim_cur = most;
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
        if (made_it)
            break;
        CHECK(status == EDGEPACK_MEMORY && model == NULL && (strstr(why, "memory") || strstr(why, "threads")));
        CHECK(address_space() <= before + SLACK && entries("/proc/self/fd") == files);
        CHECK(more < 64 << 20);
        failures++;
    }
    CHECK(failures > 3);
    check_threads(1);
    for (int i = 0; i < 100; i++)
        edgepack_close(opened(net, 2));
    CHECK(address_space() <= before + SLACK && entries("/proc/self/fd") == files);
}

static void open_only(void)
{
    char why[EDGEPACK_TEXT] = "";
    edgepack_model *model = NULL;
    const int files = entries("/proc/self/fd");
    const int status = edgepack_open(net, weights, 2, &model, why);
    printf("%d %s\n", status, why);
    CHECK((status == EDGEPACK_OK) == (model != NULL));
    edgepack_close(model);
    CHECK(entries("/proc/self/fd") == files);
}

static uint32_t crc32(const uint8_t *data, size_t size)
{
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

static void write_whole(const char *path, const uint8_t *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL && fwrite(data, 1, size, file) == size && fclose(file) == 0);
}

/* Alters and truncates the weights file at random. In every second round the index is altered alone, and its checksum
 * made to fit: nothing but the contents tells then. */
static void fuzz(const char *path, double seconds)
{
    enum { HEADER = 44, LENGTH = 16, CRC = 40 };
    size_t size, expected;
    const char *whole_path = weights;
    uint8_t *whole = read_whole(weights, &size), *data = malloc(size);
    edgepack_model *model = opened(net, 1);
    uint8_t *right = result(model, 1, &expected);
    edgepack_close(model);
    CHECK(data != NULL && size > HEADER);
    uint64_t index;
    memcpy(&index, whole + LENGTH, sizeof index);
    struct net_details forged = *net->details;
    const edgepack_net forged_net = {EDGEPACK_NET_VERSION, &forged};
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    srand(1);
    long rounds = 0, refused = 0, accepted = 0;
    do {
        const bool forge = rounds++ % 2 == 1;
        size_t length = size;
        memcpy(data, whole, size);
        for (int left = 1 + rand() % 4; left > 0; left--)
            data[forge ? HEADER + (size_t)rand() % index : (size_t)rand() % size] = (uint8_t)rand();
        if (!forge && rand() % 3 == 0)
            length = (size_t)rand() % size;
        if (forge) {
            forged.index_crc = crc32(data + HEADER, index);
            memcpy(data + CRC, &forged.index_crc, sizeof forged.index_crc);
        }
        write_whole(path, data, length);
        char why[EDGEPACK_TEXT] = "";
        weights = path;
        const edgepack_status status = edgepack_open(forge ? &forged_net : net, path, 1 + rand() % 2, &model, why);
        weights = whole_path;
        CHECK(status == EDGEPACK_OK || ((status == EDGEPACK_WEIGHTS || status == EDGEPACK_MEMORY) && why[0] != 0));
        if (status == EDGEPACK_OK && !forge)
            check_result(model, 1, right, expected);
        else if (status == EDGEPACK_OK)
            CHECK(edgepack_run(model) == EDGEPACK_OK);
        edgepack_close(model);
        status == EDGEPACK_OK ? accepted++ : refused++;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((double)(now.tv_sec - start.tv_sec) + 1e-9 * (double)(now.tv_nsec - start.tv_nsec) < seconds);
    free(whole), free(data), free(right);
    printf("%ld %ld\n", refused, accepted);
}

int main(int count, char **words)
{
    CHECK(count >= 3);
    const char *command = words[1];
    weights = words[2];
    pthread_t first;
    CHECK(pthread_create(&first, NULL, nothing, NULL) == 0 && pthread_join(first, NULL) == 0);
    entries_at_start = entries("/proc/self/task");
    static const struct {
        const char *name;
        void (*function)(void);
    } commands[] = {{"arguments", arguments}, {"binding", binding}, {"threads", threads}, {"own", own_instances},
                    {"handed-on", handed_on}, {"busy", busy},       {"pool", pool},       {"idle", idle},
                    {"fork", forked}, {"profile", profile},         {"memory", memory},   {"open", open_only}, {"sources", sources},
                    {"system-calls", system_calls}};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(command, commands[i].name) == 0) {
            commands[i].function();
            return 0;
        }
    CHECK(strcmp(command, "fuzz") == 0 && count == 5);
    fuzz(words[3], atof(words[4]));
    return 0;
}
