/* The emulated GPU's configuration and its error state. */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu.h"

static struct gpu device;
static void after_fork(void);
static pthread_once_t device_once = PTHREAD_ONCE_INIT;

static void set(const char *key, const char *value)
{
    int number;
    unsigned long long seed;
    if (strcmp(key, "name") == 0)
        snprintf(device.name, sizeof device.name, "%s", value);
    else if (strcmp(key, "compute") == 0)
        device.present = sscanf(value, "%d.%d", &device.major, &device.minor) == 2;
    else if (strcmp(key, "memory_mib") == 0)
        device.memory = strtoull(value, NULL, 10) << 20;
    else if (strcmp(key, "multiprocessors") == 0)
        device.multiprocessors = atoi(value);
    else if (strcmp(key, "order") == 0 && strcmp(value, "reverse") == 0)
        device.order = ORDER_REVERSE;
    else if (strcmp(key, "order") == 0 && sscanf(value, "random:%llu", &seed) == 1)
        device.order = ORDER_RANDOM, device.seed = seed;
    else if (strcmp(key, "fault") == 0 && strcmp(value, "hang") == 0)
        device.hang = true;
    else if (strcmp(key, "fault") == 0 && sscanf(value, "reset:%d", &number) == 1)
        device.reset = (uint64_t)number;
    else if (strcmp(key, "fault") == 0 && strcmp(value, "no-gpu") == 0)
        device.present = false;
    else if (strcmp(value, "forward") != 0)
        fprintf(stderr, "emulated GPU: gpu.conf: unknown line: %s %s\n", key, value);
}

static void read_configuration(void)
{
    const char *folder = getenv("EDGEPACK_GPU");
    pthread_atfork(NULL, NULL, after_fork);
    char path[4200], line[512];
    if (folder == NULL) {
        fprintf(stderr, "emulated GPU: EDGEPACK_GPU is not set\n");
        return;
    }
    snprintf(device.folder, sizeof device.folder, "%s", folder);
    snprintf(path, sizeof path, "%s/gpu.conf", folder);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        fprintf(stderr, "emulated GPU: cannot read %s\n", path);
        return;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *value = strchr(line, ' ');
        if (value != NULL) {
            *value = '\0';
            set(line, value + 1);
        }
    }
    fclose(file);
}

const struct gpu *gpu(void)
{
    pthread_once(&device_once, read_configuration);
    return &device;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int sticky; /* the error of a kernel; 0 if there was none */
static int last;   /* the error that `detail` explains */
static char detail[1024];
static char text[2][1200]; /* what the text functions return, for names and descriptions */

int gpu_error(int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&mutex);
    if (!sticky) {
        last = error;
        vsnprintf(detail, sizeof detail, format, arguments);
    }
    pthread_mutex_unlock(&mutex);
    va_end(arguments);
    return error;
}

void gpu_poison(int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&mutex);
    if (!sticky) {
        last = sticky = error;
        vsnprintf(detail, sizeof detail, format, arguments);
    }
    pthread_mutex_unlock(&mutex);
    va_end(arguments);
}

/* In a forked child of a process that has used the driver: CUDA does not work there. */
static void after_fork(void)
{
    pthread_mutex_init(&mutex, NULL); /* another thread of the parent may have held it */
    sticky = 0;
    gpu_poison(CUDA_NOT_INITIALIZED, "the process was forked from one that used CUDA already");
}

int gpu_poisoned(void)
{
    return __atomic_load_n(&sticky, __ATOMIC_RELAXED);
}

static const struct {
    int error;
    const char *name, *text;
} ERRORS[] = {
    {CUDA_OK, "CUDA_SUCCESS", "no error"},
    {CUDA_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {CUDA_INVALID_COPY_DIRECTION, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
    {CUDA_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CUDA_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {CUDA_NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU",
     "no kernel image is available for execution on the device"},
    {CUDA_FILE_NOT_FOUND, "CUDA_ERROR_FILE_NOT_FOUND", "file not found"},
    {CUDA_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {CUDA_LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
     "too many resources requested for launch"},
    {CUDA_MISALIGNED_ADDRESS, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {CUDA_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CUDA_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CUDA_UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

static const char *explain(int error, bool name)
{
    const char *plain = "unrecognized error code";
    char *out = text[name];
    for (size_t i = 0; i < sizeof ERRORS / sizeof ERRORS[0]; i++)
        if (ERRORS[i].error == error)
            plain = name ? ERRORS[i].name : ERRORS[i].text;
    pthread_mutex_lock(&mutex);
    if (error != CUDA_OK && error == last && detail[0] != '\0')
        snprintf(out, sizeof text[0], "%s: %s", plain, detail);
    else
        snprintf(out, sizeof text[0], "%s", plain);
    pthread_mutex_unlock(&mutex);
    return out;
}

/* TVM prints only the name of a driver's error, so both texts explain it. */
const char *gpu_error_name(int error)
{
    return explain(error, true);
}

const char *gpu_error_text(int error)
{
    return explain(error, false);
}
