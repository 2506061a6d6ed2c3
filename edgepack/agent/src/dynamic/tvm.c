#include "tvm.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The functions of libtvm_ffi.so that the agent calls. They are looked up at run time instead of linked, so
 * that `info` works on a board without a runtime, and a waiting process stays small. */
static struct {
    int (*get_global)(const TVMFFIByteArray *name, TVMFFIObjectHandle *out);
    int (*call)(TVMFFIObjectHandle function, TVMFFIAny *arguments, int32_t count, TVMFFIAny *result);
    int (*release)(TVMFFIObjectHandle object);
    void (*take_error)(TVMFFIObjectHandle *error);
    void (*version)(TVMFFIVersion *version);
} ffi;

static const struct {
    const char *name;
    void *function; /* where its address is stored */
} SYMBOLS[] = {
    {"TVMFFIFunctionGetGlobal", &ffi.get_global}, {"TVMFFIFunctionCall", &ffi.call},
    {"TVMFFIObjectDecRef", &ffi.release},         {"TVMFFIErrorMoveFromRaised", &ffi.take_error},
    {"TVMFFIGetVersion", &ffi.version},
};

bool tvm_open(struct failure *failure)
{
    /* RTLD_GLOBAL: models and kernels find the runtime's symbols without naming the library. Loading the
     * second one registers the virtual machine and the functions that are called by name below. */
    void *library = dlopen("libtvm_ffi.so", RTLD_NOW | RTLD_GLOBAL);
    if (library == NULL || dlopen("libtvm_runtime.so", RTLD_NOW | RTLD_GLOBAL) == NULL)
        return fail(failure, STATUS_MODEL, "the TVM runtime cannot be loaded: %s", dlerror());
    for (size_t i = 0; i < sizeof SYMBOLS / sizeof SYMBOLS[0]; i++) {
        void *address = dlsym(library, SYMBOLS[i].name);
        if (address == NULL)
            return fail(failure, STATUS_MODEL, "libtvm_ffi.so has no function %s", SYMBOLS[i].name);
        memcpy(SYMBOLS[i].function, &address, sizeof address); /* C has no cast from data to function */
    }
    return true;
}

void tvm_version(char *text, size_t size)
{
    TVMFFIVersion version;
    ffi.version(&version);
    snprintf(text, size, "%u.%u.%u", version.major, version.minor, version.patch);
}

/* An object's payload follows its header (c_api.h, "layout = { TVMFFIObject, ... }"). */
static void *payload(TVMFFIObjectHandle object)
{
    return (char *)object + sizeof(TVMFFIObject);
}

static TVMFFIAny any(TVMFFITypeIndex type)
{
    TVMFFIAny value;
    memset(&value, 0, sizeof value);
    value.type_index = type;
    return value;
}

TVMFFIAny tvm_integer(int64_t number)
{
    TVMFFIAny value = any(kTVMFFIInt);
    value.v_int64 = number;
    return value;
}

TVMFFIAny tvm_text(const char *text)
{
    TVMFFIAny value = any(kTVMFFIRawStr);
    value.v_c_str = text;
    return value;
}

TVMFFIAny tvm_object(TVMFFIObjectHandle object)
{
    TVMFFIAny value = any(kTVMFFINone);
    if (object != NULL) {
        value.v_obj = object;
        value.type_index = value.v_obj->type_index;
    }
    return value;
}

void tvm_release(TVMFFIObjectHandle object)
{
    if (object != NULL)
        ffi.release(object);
}

/* Whether TVM's CUDA runtime raised this error, by its words: a call of the runtime, of the driver, a launch. */
static bool of_the_gpu(const char *text)
{
    static const char *const WORDS[] = {"CUDA: ", "CUDAError: ", "CUDALaunch Error: ", "CUDA Runtime Error: "};
    for (size_t i = 0; i < sizeof WORDS / sizeof WORDS[0]; i++)
        if (strstr(text, WORDS[i]) != NULL)
            return true;
    return false;
}

/* Takes the pending error of this thread and formats it. */
static bool raised(const char *doing, struct failure *failure)
{
    TVMFFIObjectHandle error = NULL;
    ffi.take_error(&error);
    if (error == NULL)
        return fail(failure, STATUS_MODEL, "%s: TVM failed without an error", doing);
    const TVMFFIErrorCell *cell = payload(error);
    fail(failure, STATUS_MODEL, "%s: %.*s: %.*s", doing, (int)(cell->kind.size > 128 ? 128 : cell->kind.size),
         cell->kind.data, (int)(cell->message.size > 3072 ? 3072 : cell->message.size), cell->message.data);
    tvm_release(error);
    if (of_the_gpu(failure->text))
        failure->status = STATUS_DEVICE;
    return false;
}

bool tvm_call(TVMFFIObjectHandle function, const char *doing, const TVMFFIAny *arguments, int count,
              TVMFFIAny *result, struct failure *failure)
{
    TVMFFIAny unused = any(kTVMFFINone);
    TVMFFIAny *out = result != NULL ? result : &unused;
    *out = any(kTVMFFINone);
    /* The ABI takes non-const arguments, but does not write to them. */
    if (ffi.call(function, (TVMFFIAny *)(uintptr_t)arguments, count, out) != 0)
        return raised(doing, failure);
    if (result == NULL && unused.type_index >= kTVMFFIStaticObjectBegin)
        tvm_release(unused.v_obj);
    return true;
}

bool tvm_call_global(const char *name, const char *doing, const TVMFFIAny *arguments, int count,
                     TVMFFIAny *result, struct failure *failure)
{
    TVMFFIByteArray key = {name, strlen(name)};
    TVMFFIObjectHandle function = NULL;
    if (ffi.get_global(&key, &function) != 0)
        return raised(doing, failure);
    if (function == NULL)
        return fail(failure, STATUS_MODEL, "%s: this TVM runtime has no function %s", doing, name);
    bool good = tvm_call(function, doing, arguments, count, result, failure);
    tvm_release(function);
    return good;
}

bool tvm_module_function(TVMFFIObjectHandle module, const char *name, TVMFFIObjectHandle *function,
                         struct failure *failure)
{
    TVMFFIAny query_imports = any(kTVMFFIBool);
    query_imports.v_int64 = 1;
    const TVMFFIAny arguments[] = {tvm_object(module), tvm_text(name), query_imports};
    TVMFFIAny found;
    *function = NULL;
    if (!tvm_call_global("ffi.ModuleGetFunction", "cannot look up a function", arguments, 3, &found, failure))
        return false;
    if (found.type_index == kTVMFFIFunction)
        *function = found.v_obj;
    return true;
}

bool tvm_load_module(const char *path, TVMFFIObjectHandle *module, struct failure *failure)
{
    const TVMFFIAny arguments[] = {tvm_text(path), tvm_text("so")};
    TVMFFIAny loaded;
    if (!tvm_call_global("ffi.Module.load_from_file.so", "cannot load the model", arguments, 2, &loaded,
                         failure))
        return false;
    *module = loaded.v_obj;
    return true;
}

DLDevice tvm_device(enum device device)
{
    return (DLDevice){device == DEVICE_CUDA ? kDLCUDA : kDLCPU, 0};
}

bool tvm_open_device(enum device device, struct failure *failure)
{
    enum { ATTRIBUTE_EXISTS = 0 }; /* kExist in tvm/runtime/device_api.h */
    const TVMFFIAny arguments[] = {tvm_integer(kDLCUDA), tvm_integer(0), tvm_integer(ATTRIBUTE_EXISTS)};
    TVMFFIAny exists;
    if (device == DEVICE_CPU)
        return true;
    if (dlopen("libtvm_runtime_cuda.so", RTLD_NOW | RTLD_GLOBAL) == NULL)
        return fail(failure, STATUS_DEVICE,
                    "TVM's CUDA runtime cannot be loaded: %s; it needs CUDA 13 (JetPack 7) and the NVIDIA "
                    "driver on the board",
                    dlerror());
    if (!tvm_call_global("runtime.GetDeviceAttr", "cannot query the GPU", arguments, 3, &exists, failure)) {
        failure->status = STATUS_DEVICE;
        return false;
    }
    if (exists.v_int64 == 0)
        return fail(failure, STATUS_DEVICE, "the CUDA driver reports no GPU for this user");
    return true;
}

static bool make_shape(const struct tensor_type *type, TVMFFIAny *shape, struct failure *failure)
{
    TVMFFIAny dimensions[MAX_RANK];
    for (int i = 0; i < type->rank; i++)
        dimensions[i] = tvm_integer(type->shape[i]);
    return tvm_call_global("ffi.Shape", "cannot create a shape", dimensions, type->rank, shape, failure);
}

bool tvm_tensor(const struct tensor_type *type, enum device device, TVMFFIObjectHandle *tensor,
                struct failure *failure)
{
    TVMFFIAny arguments[4] = {any(kTVMFFINone), any(kTVMFFIDataType), any(kTVMFFIDevice), any(kTVMFFINone)};
    TVMFFIAny made;
    *tensor = NULL;
    if (!make_shape(type, &arguments[0], failure))
        return false;
    arguments[1].v_dtype = type->dtype->dl;
    arguments[2].v_device = tvm_device(device);
    bool good = tvm_call_global("runtime.TVMTensorAllocWithScope", "cannot allocate a tensor", arguments, 4,
                                &made, failure);
    tvm_release(arguments[0].v_obj);
    if (good)
        *tensor = made.v_obj;
    return good;
}

static bool copy(const char *function, TVMFFIObjectHandle tensor, void *data, size_t size,
                 struct failure *failure)
{
    TVMFFIAny arguments[3] = {tvm_object(tensor), any(kTVMFFIOpaquePtr), tvm_integer((int64_t)size)};
    arguments[1].v_ptr = data;
    return size == 0 || tvm_call_global(function, "cannot copy a tensor", arguments, 3, NULL, failure);
}

bool tvm_tensor_write(TVMFFIObjectHandle tensor, const void *data, size_t size, struct failure *failure)
{
    return copy("runtime.TVMTensorCopyFromBytes", tensor, (void *)(uintptr_t)data, size, failure);
}

bool tvm_tensor_read(TVMFFIObjectHandle tensor, void *data, size_t size, struct failure *failure)
{
    return copy("runtime.TVMTensorCopyToBytes", tensor, data, size, failure);
}

const DLTensor *tvm_tensor_view(TVMFFIObjectHandle tensor)
{
    return payload(tensor);
}

bool tvm_synchronise(enum device device, struct failure *failure)
{
    TVMFFIAny arguments[2] = {any(kTVMFFIDevice), tvm_integer(0)};
    if (device == DEVICE_CPU)
        return true;
    arguments[0].v_device = tvm_device(device);
    return tvm_call_global("runtime.Device_StreamSync", "the GPU failed", arguments, 2, NULL, failure);
}
