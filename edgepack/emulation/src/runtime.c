/* The part of libcudart.so.13 that TVM's CUDA runtime uses. Declarations follow NVIDIA's runtime API reference. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gpu.h"

enum copy_kind { HOST_TO_HOST, HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE, BY_ADDRESS };

/* The parts of cudaDeviceProp (CUDA 13) that are filled in; the rest is 0. */
enum { PROPERTIES_SIZE = 1008, AT_MEMORY = 288, AT_SHARED = 296, AT_REGISTERS = 304, AT_WARP = 308, AT_THREADS = 320 };

#define API(NAME, ...)      \
    int NAME(__VA_ARGS__);  \
    int NAME(__VA_ARGS__)

static int last_error;

static int result(int error)
{
    if (error)
        last_error = error;
    return error;
}

/* The state of the device for calls that can report the error of a kernel. */
static int device_state(void)
{
    if (!gpu()->present)
        return result(gpu_error(CUDA_NO_DEVICE, "the driver has none"));
    return result(gpu_poisoned());
}

const char *cudaGetErrorName(int error);
const char *cudaGetErrorString(int error);

const char *cudaGetErrorName(int error)
{
    return gpu_error_name(error);
}

const char *cudaGetErrorString(int error)
{
    return gpu_error_text(error);
}

API(cudaPeekAtLastError, void)
{
    return last_error;
}

API(cudaGetLastError, void)
{
    int error = last_error;
    last_error = gpu_poisoned();
    return error;
}

API(cudaGetDeviceCount, int *count)
{
    *count = gpu()->present;
    return gpu()->present ? CUDA_OK : device_state();
}

API(cudaGetDevice, int *device)
{
    *device = 0;
    return device_state();
}

API(cudaSetDevice, int device)
{
    if (device != 0)
        return result(gpu_error(CUDA_INVALID_DEVICE, "device %d", device));
    return device_state();
}

API(cudaDeviceGetAttribute, int *value, int attribute, int device)
{
    /* cudaDeviceAttr: number and value. */
    const int known[][2] = {
        {1, EMU_MAX_THREADS}, {2, 1024}, {3, 1024}, {4, 64}, {5, INT32_MAX}, {6, 65535}, {7, 65535},
        {8, 48 << 10}, {10, EMU_WARP}, {12, 65536}, {13, 1000000}, {16, gpu()->multiprocessors}, {18, 1},
        {38, 2 << 20}, {39, 1536}, {41, 1}, {75, gpu()->major}, {76, gpu()->minor}, {81, 65536},
        {82, 65536}, {83, 1}, {89, 0}, {97, 163 << 10},
    };
    if (!gpu()->present || device != 0)
        return result(gpu_error(gpu()->present ? CUDA_INVALID_DEVICE : CUDA_NO_DEVICE, "device %d", device));
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i][0] == attribute) {
            *value = known[i][1];
            return CUDA_OK;
        }
    return result(gpu_error(CUDA_NOT_SUPPORTED, "device attribute %d", attribute));
}

static void put(char *properties, size_t at, const void *value, size_t size)
{
    memcpy(properties + at, value, size);
}

API(cudaGetDeviceProperties, char *properties, int device)
{
    const int32_t registers = 65536, warp = EMU_WARP, threads = EMU_MAX_THREADS;
    const uint64_t shared = 48 << 10;
    if (!gpu()->present || device != 0)
        return result(gpu_error(CUDA_INVALID_DEVICE, "device %d", device));
    memset(properties, 0, PROPERTIES_SIZE);
    strncpy(properties, gpu()->name, 255);
    put(properties, AT_MEMORY, &gpu()->memory, 8);
    put(properties, AT_SHARED, &shared, 8);
    put(properties, AT_REGISTERS, &registers, 4);
    put(properties, AT_WARP, &warp, 4);
    put(properties, AT_THREADS, &threads, 4);
    return CUDA_OK;
}

API(cudaMemGetInfo, size_t *unused, size_t *total)
{
    *total = gpu()->memory;
    *unused = gpu()->memory - memory_used();
    return device_state();
}

API(cudaMalloc, void **device, size_t size)
{
    int error = device_state();
    return error ? error : result(memory_allocate(device, size));
}

API(cudaFree, void *device)
{
    int error = device_state();
    return error ? error : result(memory_free(device));
}

API(cudaMallocHost, void **host, size_t size)
{
    int error = device_state();
    return error ? error : result(memory_allocate_host(host, size));
}

API(cudaFreeHost, void *host)
{
    int error = device_state();
    return error ? error : result(memory_free_host(host));
}

/* The host's address of one side of a copy; NULL if it is not what the copy's kind says. */
static void *side(const void *pointer, size_t size, bool device, enum copy_kind kind)
{
    bool is_device = memory_is_device(pointer);
    if (kind != BY_ADDRESS && is_device != device)
        return NULL;
    return is_device ? memory_at(pointer, size) : (void *)(uintptr_t)pointer;
}

API(cudaMemcpyAsync, void *to, const void *from, size_t size, int kind, void *stream)
{
    int error = device_state();
    (void)stream;
    if (error)
        return error;
    if (kind < HOST_TO_HOST || kind > BY_ADDRESS)
        return result(gpu_error(CUDA_INVALID_COPY_DIRECTION, "a copy of kind %d", kind));
    if (size == 0)
        return CUDA_OK;
    void *target = side(to, size, kind == HOST_TO_DEVICE || kind == DEVICE_TO_DEVICE, (enum copy_kind)kind);
    void *source = side(from, size, kind == DEVICE_TO_HOST || kind == DEVICE_TO_DEVICE, (enum copy_kind)kind);
    if (target == NULL || source == NULL)
        return result(gpu_error(CUDA_INVALID_VALUE,
                                "a copy of %zu bytes, kind %d: its %s is not in one allocation of that kind", size,
                                kind, target == NULL ? "target" : "source"));
    memmove(target, source, size);
    return CUDA_OK;
}

API(cudaMemcpyPeerAsync, void *to, int to_device, const void *from, int from_device, size_t size, void *stream)
{
    if (to_device != 0 || from_device != 0)
        return result(gpu_error(CUDA_INVALID_DEVICE, "a copy from device %d to %d", from_device, to_device));
    return cudaMemcpyAsync(to, from, size, DEVICE_TO_DEVICE, stream);
}

/* Kernels and copies are complete when their call returns, so a stream is just a name. */
API(cudaStreamCreateWithFlags, void **stream, unsigned flags)
{
    (void)flags;
    *stream = malloc(1);
    return *stream ? device_state() : result(CUDA_OUT_OF_MEMORY);
}

API(cudaStreamCreate, void **stream)
{
    return cudaStreamCreateWithFlags(stream, 0);
}

API(cudaStreamDestroy, void *stream)
{
    free(stream);
    return device_state();
}

API(cudaStreamSynchronize, void *stream)
{
    (void)stream;
    return device_state();
}

API(cudaStreamWaitEvent, void *stream, void *event, unsigned flags)
{
    (void)stream, (void)event, (void)flags;
    return device_state();
}

API(cudaEventCreate, struct timespec **event)
{
    *event = calloc(1, sizeof **event);
    return *event ? device_state() : result(CUDA_OUT_OF_MEMORY);
}

API(cudaEventDestroy, struct timespec *event)
{
    free(event);
    return device_state();
}

API(cudaEventRecord, struct timespec *event, void *stream)
{
    (void)stream;
    clock_gettime(CLOCK_MONOTONIC, event);
    return device_state();
}

API(cudaEventSynchronize, void *event)
{
    (void)event;
    return device_state();
}

API(cudaEventElapsedTime, float *ms, const struct timespec *start, const struct timespec *end)
{
    *ms = (float)(end->tv_sec - start->tv_sec) * 1e3f + (float)(end->tv_nsec - start->tv_nsec) * 1e-6f;
    return device_state();
}

/* CUDA graphs: edgepack builds none. */
static int no_graphs(void)
{
    return result(gpu_error(CUDA_NOT_SUPPORTED, "CUDA graphs"));
}

API(cudaStreamBeginCapture, void *stream, int mode)
{
    (void)stream, (void)mode;
    return no_graphs();
}

API(cudaStreamEndCapture, void *stream, void **graph)
{
    (void)stream, (void)graph;
    return no_graphs();
}

API(cudaGraphInstantiate, void **executable, void *graph, unsigned long long flags)
{
    (void)executable, (void)graph, (void)flags;
    return no_graphs();
}

API(cudaGraphLaunch, void *executable, void *stream)
{
    (void)executable, (void)stream;
    return no_graphs();
}

API(cudaGraphDestroy, void *graph)
{
    (void)graph;
    return no_graphs();
}

API(cudaGraphExecDestroy, void *executable)
{
    (void)executable;
    return no_graphs();
}
