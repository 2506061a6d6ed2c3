/* Part of every compiled model: the function `open_model`, which starts TVM's virtual machine, reads the weights file
 * once, lets the model decode its weights, and returns the model as a function of its inputs alone.
 *
 *     open_model(library, weights file, inputs, device type, device number) -> main(input, ...)
 *
 * `library` is the module of this library; `inputs` is their number as the caller expects it, or -1. Errors of the
 * caller and of the file are of kind ValueError; others are TVM's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tvm/ffi/c_api.h>

#include "weightfile.h"

enum { POOLED_ALLOCATOR = 2 /* kPooled in tvm/runtime/memory/memory_manager.h */ };
enum { TEXT = 4096 + WEIGHTS_PROBLEM };

/* What the library says about its weights file; absent if it has none. The linker puts it here. */
extern const uint32_t edgepack_weights[4] __attribute__((weak, visibility("hidden")));

/* A model that is ready: the arguments are its inputs, then its weights. */
struct opened {
    TVMFFIObjectHandle library, machine, entry;
    int32_t inputs, count;
    TVMFFIAny arguments[];
};

static int raise(const char *text)
{
    TVMFFIErrorSetRaisedFromCStr("ValueError", text);
    return -1;
}

static TVMFFIAny of_type(int32_t type)
{
    TVMFFIAny value;
    memset(&value, 0, sizeof value);
    value.type_index = type;
    return value;
}

static TVMFFIAny integer(int64_t number)
{
    TVMFFIAny value = of_type(kTVMFFIInt);
    value.v_int64 = number;
    return value;
}

static TVMFFIAny text(const char *string)
{
    TVMFFIAny value = of_type(kTVMFFIRawStr);
    value.v_c_str = string;
    return value;
}

static TVMFFIAny object(TVMFFIObjectHandle handle)
{
    TVMFFIAny value = of_type(((TVMFFIObject *)handle)->type_index);
    value.v_obj = handle;
    return value;
}

static void release(TVMFFIAny value)
{
    if (value.type_index >= kTVMFFIStaticObjectBegin)
        TVMFFIObjectDecRef(value.v_obj);
}

static int call(TVMFFIObjectHandle function, TVMFFIAny *arguments, int32_t count, TVMFFIAny *result)
{
    TVMFFIAny unused = of_type(kTVMFFINone);
    if (result != NULL)
        *result = unused;
    int status = TVMFFIFunctionCall(function, arguments, count, result != NULL ? result : &unused);
    release(unused);
    return status;
}

static int call_global(const char *name, TVMFFIAny *arguments, int32_t count, TVMFFIAny *result)
{
    const TVMFFIByteArray key = {name, strlen(name)};
    TVMFFIObjectHandle function = NULL;
    if (TVMFFIFunctionGetGlobal(&key, &function) != 0)
        return -1;
    if (function == NULL)
        return raise(name); /* not in this runtime */
    int status = call(function, arguments, count, result);
    TVMFFIObjectDecRef(function);
    return status;
}

/* The function `name` of a module. */
static int function_of(TVMFFIAny module, const char *name, TVMFFIAny *function)
{
    TVMFFIAny query_imports = of_type(kTVMFFIBool);
    query_imports.v_int64 = 1;
    TVMFFIAny arguments[] = {module, text(name), query_imports};
    if (call_global("ffi.ModuleGetFunction", arguments, 3, function) != 0)
        return -1;
    if (function->type_index != kTVMFFIFunction)
        return raise("the library has no model");
    return 0;
}

static int call_method(TVMFFIAny module, const char *name, TVMFFIAny *arguments, int32_t count, TVMFFIAny *result)
{
    TVMFFIAny function;
    if (function_of(module, name, &function) != 0)
        return -1;
    int status = call(function.v_obj, arguments, count, result);
    release(function);
    return status;
}

static int start_machine(TVMFFIAny library, DLDevice device, TVMFFIAny *machine)
{
    /* The first device runs the kernels; shape computations need the CPU besides a GPU. */
    TVMFFIAny devices[] = {integer(device.device_type), integer(device.device_id), integer(POOLED_ALLOCATOR),
                           integer(kDLCPU),                integer(0),                integer(POOLED_ALLOCATOR)};
    if (call_method(library, "vm_load_executable", NULL, 0, machine) != 0)
        return -1;
    return call_method(*machine, "vm_initialization", devices, device.device_type == kDLCPU ? 3 : 6, NULL);
}

static int allocate(const struct weight *weight, DLDevice device, TVMFFIAny *tensor)
{
    TVMFFIAny axes[WEIGHT_RANK];
    TVMFFIAny arguments[] = {of_type(kTVMFFINone), of_type(kTVMFFIDataType), of_type(kTVMFFIDevice),
                             of_type(kTVMFFINone)};
    for (int axis = 0; axis < weight->rank; axis++)
        axes[axis] = integer(weight->shape[axis]);
    if (call_global("ffi.Shape", axes, weight->rank, &arguments[0]) != 0)
        return -1;
    arguments[1].v_dtype = (DLDataType){weight->code, weight->bits, 1};
    arguments[2].v_device = device;
    int status = call_global("runtime.TVMTensorAllocWithScope", arguments, 4, tensor);
    release(arguments[0]);
    return status;
}

static DLTensor *view(TVMFFIAny tensor)
{
    return (DLTensor *)((char *)tensor.v_obj + sizeof(TVMFFIObject));
}

/* Copies a weight that has been read to a GPU. */
static int copy_to_device(TVMFFIAny tensor, void *elements, uint64_t size)
{
    TVMFFIAny arguments[] = {tensor, of_type(kTVMFFIOpaquePtr), integer((int64_t)size)};
    arguments[1].v_ptr = elements;
    return call_global("runtime.TVMTensorCopyFromBytes", arguments, 3, NULL);
}

/* Reads a block into tensors: directly on the CPU, through buffers on a GPU. `homes` has NULL for every weight. */
static int read_block(const struct weightfile *file, uint64_t block, bool on_cpu, TVMFFIAny *tensors, uint8_t **homes,
                      struct weights_problem *problem)
{
    const uint32_t first = file->blocks[block].first;
    int status = 0;
    for (uint32_t i = first; status == 0 && i < file->count; i = file->weights[i].next) {
        const DLTensor *tensor = view(tensors[i]);
        homes[i] = on_cpu ? (uint8_t *)tensor->data + tensor->byte_offset : malloc(file->weights[i].raw_bytes + 1);
        if (homes[i] == NULL && !on_cpu) {
            snprintf(problem->text, sizeof problem->text, "out of memory: a weight of %llu bytes",
                     (unsigned long long)file->weights[i].raw_bytes);
            status = 1;
        }
    }
    if (status == 0)
        status = weightfile_read_block(file, block, homes, problem) ? 0 : 1;
    for (uint32_t i = first; i < file->count; i = file->weights[i].next) {
        if (status == 0 && !on_cpu && file->weights[i].raw_bytes > 0)
            status = copy_to_device(tensors[i], homes[i], file->weights[i].raw_bytes);
        if (!on_cpu)
            free(homes[i]);
        homes[i] = NULL;
    }
    return status;
}

/* Reads all weights into new tensors. -1 if TVM raised an error, 1 with a problem if the file is not valid. */
static int read_weights(const struct weightfile *file, DLDevice device, TVMFFIAny *tensors,
                        struct weights_problem *problem)
{
    for (uint32_t i = 0; i < file->count; i++)
        if (allocate(&file->weights[i], device, &tensors[i]) != 0)
            return -1;
    uint8_t **homes = calloc((size_t)file->count + 1, sizeof *homes);
    if (homes == NULL) {
        snprintf(problem->text, sizeof problem->text, "out of memory");
        return 1;
    }
    int status = 0;
    for (uint64_t block = 0; status == 0 && block < file->blocks_count; block++) {
        status = read_block(file, block, device.device_type == kDLCPU, tensors, homes, problem);
        weightfile_forget(file, block);
    }
    free(homes);
    return status;
}

/* The weights as `main` takes them, in an array: those of the file, some of them decoded by the model. */
static int load_weights(TVMFFIAny machine, const char *path, DLDevice device, TVMFFIAny *loaded)
{
    const struct weights_identity expected = {edgepack_weights[0], edgepack_weights[1],
                                              edgepack_weights[2] | (uint64_t)edgepack_weights[3] << 32};
    struct weights_problem problem = {0};
    char message[TEXT];
    struct weightfile file;
    TVMFFIAny *tensors = NULL;
    uint32_t count = 0;
    int status = weightfile_open(&file, path, &expected, &problem) ? 0 : 1;
    if (status == 0) {
        count = file.count;
        tensors = calloc(count + 1, sizeof *tensors); /* zeroed: of type None */
        if (tensors == NULL) {
            snprintf(problem.text, sizeof problem.text, "out of memory");
            status = 1;
        } else {
            status = read_weights(&file, device, tensors, &problem);
        }
    }
    weightfile_close(&file);
    if (status == 0)
        status = call_method(machine, "load_weights", tensors, (int32_t)count, loaded);
    for (uint32_t i = 0; tensors != NULL && i < count; i++)
        release(tensors[i]);
    free(tensors);
    if (status <= 0)
        return status;
    snprintf(message, sizeof message, "the weights file %.4000s cannot be used: %s", path, problem.text);
    return raise(message);
}

static int run(void *self, const TVMFFIAny *arguments, int32_t count, TVMFFIAny *result)
{
    struct opened *model = self;
    if (count != model->inputs) {
        char message[80];
        snprintf(message, sizeof message, "the model has %d inputs, got %d", model->inputs, count);
        return raise(message);
    }
    memcpy(model->arguments, arguments, (size_t)count * sizeof *arguments);
    return TVMFFIFunctionCall(model->entry, model->arguments, model->count, result);
}

/* This function is in the library, so dropping the library must be the last that it does: a jump, which does not
 * return here. */
static void drop(void *self)
{
    struct opened *model = self;
    const TVMFFIObjectHandle library = model->library;
    void (*const last)(TVMFFIObjectHandle) = (void (*)(TVMFFIObjectHandle))(void (*)(void))TVMFFIObjectDecRef;
    for (int32_t i = model->inputs; i < model->count; i++)
        release(model->arguments[i]);
    if (model->entry != NULL)
        TVMFFIObjectDecRef(model->entry);
    TVMFFIObjectDecRef(model->machine);
    free(model);
    __attribute__((musttail)) return last(library);
}

/* Makes the function from a machine that has been started and the array of its weights. */
static int bind(TVMFFIAny library, TVMFFIAny machine, TVMFFIAny weights, int64_t expected, TVMFFIAny *result)
{
    TVMFFIAny name = text("main"), arity, size = integer(0), entry;
    if (call_method(machine, "get_function_arity", &name, 1, &arity) != 0 ||
        (weights.type_index == kTVMFFIArray && call_global("ffi.ArraySize", &weights, 1, &size) != 0))
        return -1;
    const int64_t inputs = arity.v_int64 - size.v_int64;
    if (inputs < 0 || (expected >= 0 && inputs != expected)) {
        char message[120];
        snprintf(message, sizeof message, "the model has %lld inputs, got %lld", (long long)inputs,
                 (long long)expected);
        return raise(message);
    }
    struct opened *model = calloc(1, sizeof *model + (size_t)arity.v_int64 * sizeof model->arguments[0]);
    if (model == NULL)
        return raise("out of memory");
    model->inputs = (int32_t)inputs;
    model->count = (int32_t)arity.v_int64;
    model->library = library.v_obj;
    model->machine = machine.v_obj;
    TVMFFIObjectIncRef(model->library);
    TVMFFIObjectIncRef(model->machine);
    for (int64_t i = 0; i < size.v_int64; i++) {
        TVMFFIAny item[] = {weights, integer(i)};
        if (call_global("ffi.ArrayGetItem", item, 2, &model->arguments[inputs + i]) != 0) {
            drop(model);
            return -1;
        }
    }
    if (function_of(machine, "main", &entry) != 0) {
        drop(model);
        return -1;
    }
    model->entry = entry.v_obj;
    TVMFFIObjectHandle function;
    if (TVMFFIFunctionCreate(model, run, drop, &function) != 0) {
        drop(model);
        return -1;
    }
    *result = object(function);
    return 0;
}

/* The characters of a string argument, or NULL. */
static const char *characters(const TVMFFIAny *value)
{
    switch (value->type_index) {
    case kTVMFFIRawStr: return value->v_c_str;
    case kTVMFFISmallStr: return value->v_bytes;
    case kTVMFFIStr: return ((const TVMFFIByteArray *)((const char *)value->v_obj + sizeof(TVMFFIObject)))->data;
    default: return NULL;
    }
}

__attribute__((visibility("default"))) int __tvm_ffi_open_model(void *self, const TVMFFIAny *arguments,
                                                                int32_t count, TVMFFIAny *result)
{
    (void)self;
    const char *path = count == 5 ? characters(&arguments[1]) : NULL;
    if (path == NULL || arguments[0].type_index != kTVMFFIModule || arguments[2].type_index != kTVMFFIInt ||
        arguments[3].type_index != kTVMFFIInt || arguments[4].type_index != kTVMFFIInt)
        return raise("open_model takes the library, its weights file, and three numbers: inputs, device type, device");
    const DLDevice device = {(DLDeviceType)arguments[3].v_int64, (int32_t)arguments[4].v_int64};
    TVMFFIAny machine = of_type(kTVMFFINone), weights = of_type(kTVMFFINone);
    int status = start_machine(arguments[0], device, &machine);
    if (status == 0 && edgepack_weights != NULL)
        status = load_weights(machine, path, device, &weights);
    if (status == 0)
        status = bind(arguments[0], machine, weights, arguments[2].v_int64, result);
    release(weights);
    release(machine);
    return status;
}
