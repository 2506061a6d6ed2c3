/* The part of libcuda.so.1 that TVM's CUDA runtime uses. Declarations follow NVIDIA's driver API reference. */
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gpu.h"

struct module {
    void *library;
    uintptr_t start, end; /* its read-only and writable data */
    unsigned char *image; /* the cubin */
};

struct function {
    const struct emu_kernel *kernel;
    const struct module *module;
    size_t dynamic_shared_limit;
    unsigned registers; /* per thread */
    char name[256];
};

struct launch_config { /* CUlaunchConfig */
    unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
    void *stream;
    void *attributes;
    unsigned attribute_count;
};

enum {
    DYNAMIC_SHARED_DEFAULT = 48 << 10,
    ATTRIBUTE_MAX_DYNAMIC_SHARED = 8, /* CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES */
    MAX_GRID_YZ = 65535,
    MAX_BLOCK_Z = 64,
    REGISTERS_PER_BLOCK = 65536,
};

int cuDeviceGetName(char *name, int length, int device);
int cuFuncSetAttribute(struct function *function, int attribute, int value);
int cuGetErrorName(int error, const char **name);
int cuGetErrorString(int error, const char **text);
int cuModuleLoadData(struct module **module, const void *image);
int cuModuleUnload(struct module *module);
int cuModuleGetFunction(struct function **function, struct module *module, const char *name);
int cuLaunchKernelEx(const struct launch_config *config, struct function *function, void **parameters, void **extra);
int cuTensorMapEncodeTiled(void);

int cuGetErrorName(int error, const char **name)
{
    *name = gpu_error_name(error);
    return CUDA_OK;
}

int cuGetErrorString(int error, const char **text)
{
    *text = gpu_error_text(error);
    return CUDA_OK;
}

int cuDeviceGetName(char *name, int length, int device)
{
    if (device != 0 || !gpu()->present)
        return gpu_error(CUDA_INVALID_DEVICE, "device %d", device);
    snprintf(name, (size_t)length, "%s", gpu()->name);
    return CUDA_OK;
}

/* The most shared memory that a block may ask for, CUDA C++ Programming Guide, Compute Capabilities. */
static size_t dynamic_shared_limit(void)
{
    switch (gpu()->major * 10 + gpu()->minor) {
    case 75:
        return 64 << 10;
    case 72:
        return 96 << 10;
    case 86:
    case 89:
    case 120:
        return 99 << 10;
    case 80:
    case 87:
        return 163 << 10;
    default:
        return 227 << 10;
    }
}

int cuFuncSetAttribute(struct function *function, int attribute, int value)
{
    if (gpu_poisoned())
        return gpu_poisoned();
    if (attribute != ATTRIBUTE_MAX_DYNAMIC_SHARED)
        return gpu_error(CUDA_NOT_SUPPORTED, "attribute %d of kernel %s", attribute, function->name);
    if (value < 0 || (size_t)value > dynamic_shared_limit())
        return gpu_error(CUDA_INVALID_VALUE,
                         "kernel %s: %d bytes of dynamic shared memory, at most %zu are possible on compute "
                         "capability %d.%d",
                         function->name, value, dynamic_shared_limit(), gpu()->major, gpu()->minor);
    function->dynamic_shared_limit = (size_t)value;
    return CUDA_OK;
}

/* The size of an ELF file, from its header: its tables lie at its end. */
static size_t elf_size(const unsigned char *image)
{
    const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)(const void *)image;
    size_t sections = header->e_shoff + (size_t)header->e_shnum * header->e_shentsize;
    size_t segments = header->e_phoff + (size_t)header->e_phnum * header->e_phentsize;
    return sections > segments ? sections : segments;
}

/* A cubin runs on its own compute capability and on later ones with the same major number. */
static int check_architecture(const unsigned char *image)
{
    const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)(const void *)image;
    if (memcmp(image, "\177ELF", 4) != 0 || header->e_machine != EM_CUDA)
        return gpu_error(CUDA_INVALID_IMAGE, "not a cubin; the emulation compiles no PTX and no source");
    unsigned version = header->e_flags >> 8 & 0xff ? header->e_flags >> 8 & 0xff : header->e_flags & 0xff;
    int major = (int)version / 10, minor = (int)version % 10;
    if (major != gpu()->major || minor > gpu()->minor)
        return gpu_error(CUDA_NO_BINARY_FOR_GPU, "the kernels are compiled for sm_%u, the device is sm_%d%d", version,
                         gpu()->major, gpu()->minor);
    return CUDA_OK;
}

static int find_data(struct dl_phdr_info *info, size_t size, void *context)
{
    struct module *module = context;
    struct link_map *map = NULL;
    (void)size;
    if (dlinfo(module->library, RTLD_DI_LINKMAP, &map) != 0 || info->dlpi_addr != map->l_addr)
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD)
            continue;
        uintptr_t start = info->dlpi_addr + segment->p_vaddr, end = start + segment->p_memsz;
        module->start = module->start == 0 || start < module->start ? start : module->start;
        module->end = end > module->end ? end : module->end;
    }
    return 1;
}

int cuModuleLoadData(struct module **module, const void *image)
{
    char digest[65], path[4300];
    int error = gpu_poisoned() ? gpu_poisoned() : check_architecture(image);
    if (error)
        return error;
    sha256_hex(image, elf_size(image), digest);
    snprintf(path, sizeof path, "%s/modules/%s.so", gpu()->folder, digest);
    if (access(path, R_OK) != 0)
        return gpu_error(CUDA_FILE_NOT_FOUND,
                         "the emulation has no module for the cubin sha256:%s (%s); it is made from the kernels' "
                         "source, which `edgepack run` writes beside the bundle as a .kernels.cu file",
                         digest, path);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return gpu_error(CUDA_INVALID_IMAGE, "%s", dlerror());
    struct module *made = calloc(1, sizeof *made);
    if (made == NULL || (made->image = malloc(elf_size(image))) == NULL)
        return gpu_error(CUDA_OUT_OF_MEMORY, "no memory for a module");
    memcpy(made->image, image, elf_size(image));
    made->library = library;
    dl_iterate_phdr(find_data, made);
    *module = made;
    return CUDA_OK;
}

int cuModuleUnload(struct module *module)
{
    if (gpu_poisoned())
        return gpu_poisoned();
    dlclose(module->library);
    free(module->image);
    free(module);
    return CUDA_OK;
}

/* Registers per thread, from the upper 8 bits of the sh_info of the section with the kernel's code; 0 if unknown. */
static unsigned registers_of(const unsigned char *image, const char *name)
{
    const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)(const void *)image;
    const ElfW(Shdr) *sections = (const ElfW(Shdr) *)(const void *)(image + header->e_shoff);
    const char *names = (const char *)image + sections[header->e_shstrndx].sh_offset;
    for (int i = 0; i < header->e_shnum; i++) {
        const char *section = names + sections[i].sh_name;
        if (strncmp(section, ".text.", 6) == 0 && strcmp(section + 6, name) == 0)
            return sections[i].sh_info >> 24;
    }
    return 0;
}

int cuModuleGetFunction(struct function **function, struct module *module, const char *name)
{
    char symbol[300];
    if (gpu_poisoned())
        return gpu_poisoned();
    snprintf(symbol, sizeof symbol, "%s__emu", name);
    const struct emu_kernel *kernel = dlsym(module->library, symbol);
    if (kernel == NULL)
        return gpu_error(CUDA_NOT_FOUND, "kernel %s", name);
    struct function *made = calloc(1, sizeof *made);
    if (made == NULL)
        return gpu_error(CUDA_OUT_OF_MEMORY, "no memory for a function");
    made->kernel = kernel;
    made->module = module;
    made->registers = registers_of(module->image, name);
    made->dynamic_shared_limit = DYNAMIC_SHARED_DEFAULT;
    snprintf(made->name, sizeof made->name, "%s", name);
    *function = made;
    return CUDA_OK;
}

static int check_launch(const struct launch_config *c, const struct function *function)
{
    const struct emu_kernel *kernel = function->kernel;
    uint64_t threads = (uint64_t)c->block_x * c->block_y * c->block_z;
    const char *name = function->name;
    if (!c->block_x || !c->block_y || !c->block_z || !c->grid_x || !c->grid_y || !c->grid_z)
        return gpu_error(CUDA_INVALID_VALUE, "kernel %s: an empty grid or block", name);
    if (c->block_x > EMU_MAX_THREADS || c->block_y > EMU_MAX_THREADS || (c->block_z <= MAX_BLOCK_Z && threads > EMU_MAX_THREADS))
        return gpu_error(CUDA_INVALID_VALUE, "kernel %s: %llu threads per block, at most %d are possible", name,
                         (unsigned long long)threads, EMU_MAX_THREADS);
    if (c->block_z > MAX_BLOCK_Z)
        return gpu_error(CUDA_INVALID_VALUE, "kernel %s: a block of %u threads in z, at most %d are possible", name,
                         c->block_z, MAX_BLOCK_Z);
    if (kernel->max_threads != 0 && threads > kernel->max_threads)
        return gpu_error(CUDA_INVALID_VALUE, "kernel %s: %llu threads per block, its __launch_bounds__ are %u", name,
                         (unsigned long long)threads, kernel->max_threads);
    if (c->grid_x > INT32_MAX || c->grid_y > MAX_GRID_YZ || c->grid_z > MAX_GRID_YZ)
        return gpu_error(CUDA_INVALID_VALUE,
                         "kernel %s: a grid of (%u,%u,%u) blocks, at most (2147483647,65535,65535) are possible", name,
                         c->grid_x, c->grid_y, c->grid_z);
    if (c->shared_bytes > function->dynamic_shared_limit)
        return gpu_error(CUDA_INVALID_VALUE,
                         "kernel %s: %u bytes of dynamic shared memory, at most %zu are allowed for it", name,
                         c->shared_bytes, function->dynamic_shared_limit);
    /* Registers are given to warps, in units of 256 per warp. */
    uint64_t warps = (threads + EMU_WARP - 1) / EMU_WARP, each = (function->registers * EMU_WARP + 255) / 256 * 256;
    if (warps * each > REGISTERS_PER_BLOCK)
        return gpu_error(CUDA_LAUNCH_OUT_OF_RESOURCES,
                         "kernel %s: %llu threads with %u registers each, a block has %d registers", name,
                         (unsigned long long)threads, function->registers, REGISTERS_PER_BLOCK);
    if (c->attribute_count != 0)
        return gpu_error(CUDA_NOT_SUPPORTED, "kernel %s: launch attributes", name);
    return CUDA_OK;
}

/* Runs the launch in the configured order and forwards, and compares all memory: a difference is a race. */
static void run_twice(struct launch *launch)
{
    enum order order = launch->order;
    char where[128], name[40] = "reverse";
    void *before = memory_snapshot(), *after = NULL;
    launch->order = ORDER_FORWARD;
    run_launch_in_order(launch);
    if (before != NULL && !gpu_poisoned())
        after = memory_snapshot();
    if (after == NULL) {
        gpu_poison(CUDA_OUT_OF_MEMORY, "no memory to compare kernel %s in two orders", launch->name);
    } else {
        memory_restore(before);
        launch->order = order;
        run_launch_in_order(launch);
        if (order == ORDER_RANDOM)
            snprintf(name, sizeof name, "random:%llu", (unsigned long long)launch->seed);
        if (!gpu_poisoned() && memory_difference(after, where, sizeof where))
            gpu_poison(CUDA_LAUNCH_FAILED,
                       "kernel %s has a race: %s depends on the order of threads and blocks (%s and forward)",
                       launch->name, where, name);
    }
    memory_discard(before);
    memory_discard(after);
}

int cuLaunchKernelEx(const struct launch_config *config, struct function *function, void **parameters, void **extra)
{
    static uint64_t launches;
    const struct emu_kernel *kernel = function->kernel;
    int error = gpu_poisoned() ? gpu_poisoned() : check_launch(config, function);
    if (error)
        return error;
    if (extra != NULL)
        return gpu_error(CUDA_NOT_SUPPORTED, "kernel %s: parameters as one buffer", function->name);
    if (++launches == gpu()->reset) {
        gpu_poison(CUDA_UNKNOWN, "the GPU was reset during kernel %s", function->name);
        return CUDA_OK; /* a launch returns before the kernel has run: the error comes with the next call */
    }
    while (gpu()->hang)
        pause();
    uint64_t values[EMU_MAX_PARAMETERS];
    void *pointers[EMU_MAX_PARAMETERS];
    for (uint32_t i = 0; i < kernel->parameter_count; i++) {
        memcpy(&values[i], parameters[i], kernel->parameter_sizes[i]);
        if (kernel->is_pointer[i])
            values[i] = (uint64_t)(uintptr_t)memory_for_kernel((void *)(uintptr_t)values[i]);
        pointers[i] = &values[i];
    }
    struct launch launch = {
        .kernel = kernel,
        .name = function->name,
        .grid = {config->grid_x, config->grid_y, config->grid_z},
        .block = {config->block_x, config->block_y, config->block_z},
        .dynamic_shared = config->shared_bytes,
        .shared_limit = function->dynamic_shared_limit,
        .parameters = pointers,
        .constants = function->module->start,
        .constants_end = function->module->end,
        .order = gpu()->order,
        .seed = gpu()->seed,
    };
    if (launch.order == ORDER_FORWARD)
        run_launch(&launch);
    else
        run_twice(&launch);
    return CUDA_OK;
}

int cuTensorMapEncodeTiled(void)
{
    return gpu_error(CUDA_NOT_SUPPORTED, "tensor maps need compute capability 9.0");
}
