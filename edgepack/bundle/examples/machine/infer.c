/* Runs the model of this bundle on .npy files and prints the largest values of its first output.
 *
 *     cc -O2 -Wall infer.c -o infer -L../lib -Wl,--no-as-needed -ltvm_runtime -ltvm_ffi \
 *         -Wl,-rpath,'$ORIGIN/../lib'
 *     ./infer [MODEL.so INPUT.npy...]
 *
 * For a CUDA model: dlopen("libtvm_runtime_cuda.so", RTLD_NOW | RTLD_GLOBAL) first, open the model on
 * device type 2 (kDLCUDA) instead of CPU, and move data with the runtime's functions
 * runtime.TVMTensorAllocWithScope, TVMTensorCopyFromBytes and TVMTensorCopyToBytes. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The part of TVM's stable C ABI that is used here; all of it is in tvm/ffi/c_api.h of apache-tvm-ffi. */
typedef struct { uint8_t code, bits; uint16_t lanes; } DataType;
typedef struct { int32_t type, id; } Device;
typedef struct { void *data; Device device; int32_t ndim; DataType dtype; int64_t *shape, *strides; uint64_t byte_offset; } Tensor;
typedef struct { uint64_t references; int32_t type; uint32_t padding; void (*deleter)(void *, int); } Object;
typedef struct { const char *data; size_t size; } Bytes;
typedef struct { int32_t type; uint32_t zero; union { int64_t integer; const char *text; void *pointer; } v; } Any;
enum { NONE = 0, INTEGER = 1, BOOL = 2, TENSOR_POINTER = 7, TEXT = 8, OBJECT = 64, ERROR = 67, TENSOR = 70, ARRAY = 71, MODULE = 73 };
enum { CPU = 1, MAX_INPUTS = 16, MAX_RANK = 8 };
int TVMFFIFunctionGetGlobal(const Bytes *name, void **function);
int TVMFFIFunctionCall(void *function, Any *arguments, int32_t count, Any *result);
int TVMFFIObjectDecRef(void *object);
void TVMFFIErrorMoveFromRaised(void **error);

static void die(const char *what, const char *why)
{
    fprintf(stderr, "infer: %s: %s\n", what, why);
    exit(1);
}

static Any call(void *function, Any *arguments, int count)
{
    Any result = {0};
    if (TVMFFIFunctionCall(function, arguments, count, &result) != 0) {
        void *error;
        TVMFFIErrorMoveFromRaised(&error);
        die("TVM", ((Bytes *)((Object *)error + 1))[1].data); /* kind, message, backtrace */
    }
    return result;
}

static Any call_global(const char *name, Any *arguments, int count)
{
    Bytes key = {name, strlen(name)};
    void *function = NULL;
    if (TVMFFIFunctionGetGlobal(&key, &function) != 0 || function == NULL)
        die(name, "not in this runtime");
    Any result = call(function, arguments, count);
    TVMFFIObjectDecRef(function);
    return result;
}

/* The function `name` of a module. */
static void *function_of(Any module, const char *name)
{
    Any arguments[] = {module, {.type = TEXT, .v.text = name}, {.type = BOOL, .v.integer = 1}};
    Any found = call_global("ffi.ModuleGetFunction", arguments, 3);
    if (found.type == NONE)
        die(name, "the model has no such function");
    return found.v.pointer;
}

/* Loads a model with its weights, which are in the file MODEL.so.weights, and returns it as a function of its inputs. */
static void *load(const char *path, int inputs)
{
    char weights[4096];
    if (snprintf(weights, sizeof weights, "%s.weights", path) >= (int)sizeof weights)
        die(path, "its path is too long");
    Any name[] = {{.type = TEXT, .v.text = path}};
    Any library = call_global("ffi.ModuleLoadFromFile", name, 1);
    Any arguments[] = {library, {.type = TEXT, .v.text = weights}, {.type = INTEGER, .v.integer = inputs}, {.type = INTEGER, .v.integer = CPU}, {.type = INTEGER}};
    return call(function_of(library, "open_model"), arguments, 5).v.pointer;
}

/* Reads a C-ordered little-endian .npy file; the compiled code wants its data aligned to 64 bytes. */
static void read_npy(const char *path, Tensor *tensor)
{
    static const struct { const char *name; DataType dtype; } TYPES[] = {
        {"<f4", {2, 32, 1}}, {"<f2", {2, 16, 1}}, {"|i1", {0, 8, 1}}, {"|u1", {1, 8, 1}}, {"<i4", {0, 32, 1}}, {"<i8", {0, 64, 1}}, {"|b1", {6, 8, 1}},
    };
    char head[10], header[4096] = "";
    FILE *file = fopen(path, "rb");
    size_t length, size;
    if (file == NULL || fread(head, 1, 10, file) != 10 || memcmp(head, "\x93NUMPY\x01", 7) != 0)
        die(path, "not a .npy file of version 1");
    length = (unsigned char)head[8] + 256u * (unsigned char)head[9];
    if (length >= sizeof header || fread(header, 1, length, file) != length || strstr(header, "'fortran_order': False") == NULL)
        die(path, "its header cannot be used");
    *tensor = (Tensor){.device = {CPU, 0}, .shape = calloc(MAX_RANK, 8), .strides = calloc(MAX_RANK, 8)};
    for (size_t i = 0; i < sizeof TYPES / sizeof TYPES[0]; i++)
        if (strstr(header, TYPES[i].name) != NULL)
            tensor->dtype = TYPES[i].dtype;
    const char *at = strstr(header, "'shape': (");
    if (tensor->dtype.bits == 0 || at == NULL || tensor->shape == NULL || tensor->strides == NULL)
        die(path, "its dtype or shape cannot be used");
    for (at += 10; *at >= '0' && *at <= '9' && tensor->ndim < MAX_RANK; at += strspn(at, ", "))
        tensor->shape[tensor->ndim++] = strtoll(at, (char **)&at, 10);
    size = 1;
    for (int i = tensor->ndim - 1; i >= 0; i--) {
        tensor->strides[i] = (int64_t)size;
        size *= (size_t)tensor->shape[i];
    }
    size *= tensor->dtype.bits / 8;
    tensor->data = aligned_alloc(64, (size + 64) / 64 * 64);
    if (tensor->data == NULL || fread(tensor->data, 1, size, file) != size)
        die(path, "it is shorter than its header says");
    fclose(file);
}

static double element(const Tensor *tensor, int64_t i)
{
    const char *data = (const char *)tensor->data + tensor->byte_offset;
    if (tensor->dtype.code == 2 && tensor->dtype.bits == 32)
        return ((const float *)data)[i];
    if (tensor->dtype.code == 0 && tensor->dtype.bits == 64)
        return (double)((const int64_t *)data)[i];
    if (tensor->dtype.code == 0 && tensor->dtype.bits == 32)
        return ((const int32_t *)data)[i];
    die("the output", "has a dtype this example does not print");
    return 0;
}

static void print_largest(const Tensor *output)
{
    int64_t count = 1, before = -1;
    for (int i = 0; i < output->ndim; i++)
        count *= output->shape[i];
    for (int rank = 0; rank < 5 && rank < count; rank++) {
        int64_t best = -1;
        for (int64_t i = 0; i < count; i++) /* the next one in the order of (value, then index) */
            if ((before < 0 || element(output, i) < element(output, before) || (element(output, i) == element(output, before) && i > before)) &&
                (best < 0 || element(output, i) > element(output, best)))
                best = i;
        if (best < 0)
            return; /* only NaN is left */
        printf("%8lld  %g\n", (long long)best, element(output, best));
        before = best;
    }
}

int main(int count, char **words)
{
    char *defaults[] = {words[0], "../model/model.so", "../sample/input-0.npy"};
    Any arguments[MAX_INPUTS];
    Tensor inputs[MAX_INPUTS];
    if (count < 3 || count - 2 > MAX_INPUTS) {
        count = 3;
        words = defaults;
    }
    void *model = load(words[1], count - 2);
    for (int i = 0; i < count - 2; i++) {
        read_npy(words[i + 2], &inputs[i]);
        arguments[i] = (Any){.type = TENSOR_POINTER, .v.pointer = &inputs[i]};
    }
    Any result = call(model, arguments, count - 2); /* one inference; repeat this line for more */
    if (result.type == ARRAY) {
        Any first[] = {result, {.type = INTEGER, .v.integer = 0}};
        result = call_global("ffi.ArrayGetItem", first, 2);
    }
    print_largest((const Tensor *)((const Object *)result.v.pointer + 1));
    TVMFFIObjectDecRef(result.v.pointer);
    return 0;
}
