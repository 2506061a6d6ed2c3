/* Device memory.
 *
 * A device pointer is an address in a reserved range that nothing can read or write: a host that uses one gets the
 * segmentation fault that it gets on a Jetson. The contents lie in a second range at the same offsets, to which launches
 * and copies translate. Addresses are not used again after a free, so that a later use is noticed; between allocations
 * lie unused granules. Fresh memory holds garbage: 0xff, which is NaN in every floating-point type. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gpu.h"

#define SPAN ((size_t)16 << 30)

enum {
    GRANULE = 1 << EMU_GRANULE_SHIFT,
    MAX_ALLOCATIONS = 1 << 22,
    MAX_HOST = 256,
    UNKNOWN = 1 << 30, /* this far behind an allocation, an address has nothing to do with it */
};

struct allocation {
    uintptr_t start; /* as kernels see it */
    size_t size;
    bool freed;
};

uintptr_t memory_base;
size_t memory_span;
const uint32_t *memory_owner;
const uintptr_t *memory_limits;

static uintptr_t device_base; /* of the range that the host cannot touch */
static uint32_t *owner;
static uintptr_t *limits;
static struct allocation *allocations; /* from 1 */
static uint32_t count;
static size_t next_offset;
static uint64_t used;
static struct {
    uintptr_t start;
    size_t size;
} host[MAX_HOST];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool ready;

__attribute__((weak)) void __asan_poison_memory_region(const volatile void *start, size_t size);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void *start, size_t size);

void memory_allow(uintptr_t start, size_t size)
{
    if (__asan_unpoison_memory_region != NULL)
        __asan_unpoison_memory_region((void *)start, size);
}

void memory_forbid(uintptr_t start, size_t size)
{
    if (__asan_poison_memory_region != NULL)
        __asan_poison_memory_region((void *)start, size);
}

static void *reserve(size_t size, int protection)
{
    void *range = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return range == MAP_FAILED ? NULL : range;
}

static void initialise(void)
{
    void *device = reserve(SPAN, PROT_NONE), *contents = reserve(SPAN, PROT_READ | PROT_WRITE);
    owner = reserve((SPAN >> EMU_GRANULE_SHIFT) * sizeof *owner, PROT_READ | PROT_WRITE);
    limits = reserve(MAX_ALLOCATIONS * sizeof *limits, PROT_READ | PROT_WRITE);
    allocations = reserve(MAX_ALLOCATIONS * sizeof *allocations, PROT_READ | PROT_WRITE);
    ready = device && contents && owner && limits && allocations;
    device_base = (uintptr_t)device;
    memory_base = (uintptr_t)contents;
    memory_span = ready ? SPAN : 0;
    memory_owner = owner;
    memory_limits = limits;
    next_offset = GRANULE; /* offset 0 is no allocation */
    signals_catch();
}

static size_t granules(size_t size)
{
    return (size + GRANULE - 1) / GRANULE;
}

int memory_allocate(void **device, size_t size)
{
    int error = CUDA_OK;
    pthread_once(&once, initialise);
    if (!ready)
        return gpu_error(CUDA_OUT_OF_MEMORY, "the emulation cannot reserve its address space");
    pthread_mutex_lock(&mutex);
    size_t span = (granules(size) + 1) * GRANULE; /* one unused granule behind it */
    if (size == 0) {
        *device = NULL;
    } else if (size > gpu()->memory || used + size > gpu()->memory) {
        error = gpu_error(CUDA_OUT_OF_MEMORY, "%zu bytes asked for, %llu of the device's %llu are free", size,
                          (unsigned long long)(gpu()->memory - used), (unsigned long long)gpu()->memory);
    } else if (span > SPAN - next_offset || count + 1 >= MAX_ALLOCATIONS) {
        error = gpu_error(CUDA_OUT_OF_MEMORY, "the emulation's address space is used up: addresses are not "
                                              "used twice, and this process has allocated 16 GiB");
    } else {
        struct allocation *fresh = &allocations[++count];
        fresh->start = memory_base + next_offset;
        fresh->size = size;
        limits[count] = fresh->start + size;
        for (size_t i = 0; i < granules(size); i++)
            owner[(next_offset >> EMU_GRANULE_SHIFT) + i] = count;
        memset((void *)fresh->start, 0xff, size);
        memory_forbid(fresh->start + size, span - size);
        *device = (void *)(device_base + next_offset);
        next_offset += span;
        used += size;
    }
    pthread_mutex_unlock(&mutex);
    return error;
}

bool memory_is_device(const void *address)
{
    return ready && (uintptr_t)address - device_base < SPAN;
}

void *memory_for_kernel(void *device)
{
    return memory_is_device(device) ? (void *)((uintptr_t)device - device_base + memory_base) : device;
}

/* The allocation with this address of a kernel, freed or not; NULL if none ever had it. */
static const struct allocation *find(uintptr_t address)
{
    uint32_t index = owner[(address - memory_base) >> EMU_GRANULE_SHIFT];
    return index == 0 ? NULL : &allocations[index];
}

int memory_free(void *device)
{
    if (device == NULL)
        return CUDA_OK;
    if (!memory_is_device(device))
        return gpu_error(CUDA_INVALID_VALUE, "cudaFree of %p, which is no device pointer", device);
    pthread_mutex_lock(&mutex);
    uintptr_t address = (uintptr_t)memory_for_kernel(device);
    struct allocation *old = (struct allocation *)(uintptr_t)find(address);
    int error = CUDA_OK;
    if (old == NULL || old->freed || old->start != address) {
        error = gpu_error(CUDA_INVALID_VALUE, "cudaFree of %p, which %s", device,
                          old && old->freed ? "is freed already" : "is not the start of an allocation");
    } else {
        old->freed = true;
        used -= old->size;
        limits[old - allocations] = 0;
        memory_forbid(old->start, old->size);
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (old->start + page - 1) / page * page;
        uintptr_t end = (old->start + old->size) / page * page;
        if (end > start)
            madvise((void *)start, end - start, MADV_DONTNEED);
    }
    pthread_mutex_unlock(&mutex);
    return error;
}

uint64_t memory_used(void)
{
    return used;
}

void *memory_at(const void *device, size_t size)
{
    if (!memory_is_device(device))
        return NULL;
    uintptr_t address = (uintptr_t)device - device_base + memory_base;
    const struct allocation *owner_of = find(address);
    if (owner_of == NULL || owner_of->freed)
        return NULL;
    size_t offset = address - owner_of->start;
    if (offset > owner_of->size || size > owner_of->size - offset)
        return NULL;
    return (void *)address;
}

int memory_allocate_host(void **memory, size_t size)
{
    *memory = NULL;
    for (int i = 0; i < MAX_HOST; i++) {
        if (host[i].start != 0)
            continue;
        if (posix_memalign(memory, 512, size ? size : 1) != 0)
            break;
        host[i].start = (uintptr_t)*memory;
        host[i].size = size;
        return CUDA_OK;
    }
    return gpu_error(CUDA_OUT_OF_MEMORY, "%zu bytes of page-locked memory", size);
}

int memory_free_host(void *memory)
{
    for (int i = 0; i < MAX_HOST; i++)
        if (memory != NULL && host[i].start == (uintptr_t)memory) {
            host[i].start = 0;
            free(memory);
            return CUDA_OK;
        }
    return memory == NULL ? CUDA_OK : gpu_error(CUDA_INVALID_VALUE, "cudaFreeHost of %p", memory);
}

/* Describes an address of a kernel that lies in no allocation: which one is near. */
static void describe(uintptr_t address, const struct allocation *behind, char *text, size_t text_size)
{
    size_t offset = behind ? address - behind->start : 0;
    const struct allocation *next = behind == NULL ? &allocations[1] : behind - allocations < count ? behind + 1 : NULL;
    /* Before the next allocation's start is more likely than far behind this one's end. */
    if (next && !next->freed && next->start != 0 && (!behind || next->start - address <= offset - behind->size))
        snprintf(text, text_size, "%zu bytes before an allocation of %zu bytes", next->start - address, next->size);
    else if (behind == NULL || (!behind->freed && offset >= behind->size + UNKNOWN))
        snprintf(text, text_size, "at an address that was never allocated");
    else
        snprintf(text, text_size, "at offset %zu of an allocation of %zu bytes%s", offset, behind->size,
                 behind->freed ? " that was freed" : "");
}

const char *memory_fault(uintptr_t address, size_t size, char *text, size_t text_size)
{
    if (address - memory_base < memory_span) {
        const struct allocation *near = find(address);
        if (near != NULL && !near->freed && address + size <= near->start + near->size)
            return NULL;
        if (near == NULL && address < memory_base + next_offset)
            for (uintptr_t at = address; near == NULL && at >= memory_base + GRANULE;)
                near = find(at -= GRANULE);
        else if (near == NULL && count > 0)
            near = &allocations[count];
        if (near != NULL && !near->freed && address < near->start + near->size)
            snprintf(text, text_size, "at offset %zu of an allocation of %zu bytes", address - near->start, near->size);
        else
            describe(address, near, text, text_size);
        return text;
    }
    for (int i = 0; i < MAX_HOST; i++)
        if (host[i].start != 0 && address >= host[i].start && address + size <= host[i].start + host[i].size)
            return NULL;
    snprintf(text, text_size, "at %s",
             address + 4096 < 2 * 4096   ? "a null pointer"
             : memory_is_device((void *)address) ? "a device pointer that was read from memory, which the emulation does not do"
                                                 : "memory of the host, which the GPU cannot use");
    return text;
}

struct snapshot {
    uint32_t count;
    char *contents;
};

static size_t total_size(uint32_t until)
{
    size_t total = 0;
    for (uint32_t i = 1; i <= until; i++)
        total += allocations[i].freed ? 0 : allocations[i].size;
    return total;
}

void *memory_snapshot(void)
{
    struct snapshot *made = malloc(sizeof *made);
    if (made == NULL)
        return NULL;
    made->count = count;
    made->contents = malloc(total_size(count) + 1);
    if (made->contents == NULL) {
        free(made);
        return NULL;
    }
    char *to = made->contents;
    for (uint32_t i = 1; i <= count; i++)
        if (!allocations[i].freed) {
            memcpy(to, (void *)allocations[i].start, allocations[i].size);
            to += allocations[i].size;
        }
    return made;
}

void memory_discard(void *snapshot)
{
    if (snapshot != NULL)
        free(((struct snapshot *)snapshot)->contents);
    free(snapshot);
}

void memory_restore(const void *snapshot)
{
    const struct snapshot *from = snapshot;
    const char *at = from->contents;
    for (uint32_t i = 1; i <= from->count; i++)
        if (!allocations[i].freed) {
            memcpy((void *)allocations[i].start, at, allocations[i].size);
            at += allocations[i].size;
        }
}

bool memory_difference(const void *snapshot, char *text, size_t text_size)
{
    const struct snapshot *other = snapshot;
    const char *at = other->contents;
    for (uint32_t i = 1; i <= other->count; i++) {
        const struct allocation *own = &allocations[i];
        if (own->freed)
            continue;
        if (memcmp((void *)own->start, at, own->size) != 0) {
            size_t offset = 0;
            while (((char *)own->start)[offset] == at[offset])
                offset++;
            snprintf(text, text_size, "byte %zu of an allocation of %zu bytes", offset, own->size);
            return true;
        }
        at += own->size;
    }
    return false;
}
