#include "model.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "elf_check.h"

/* Sorting and random operators are in a separate library, which a bundle includes if needed. */
static void load_extra_runtime(void)
{
    dlopen("libtvm_runtime_extra.so", RTLD_LAZY | RTLD_GLOBAL);
}

/* Starts the model: the library reads its weights file, which has its name with ".weights" after it. */
static bool open_model(struct model *model, const char *path, int inputs, struct failure *failure)
{
    char weights[PATH_MAX + sizeof ".weights"];
    TVMFFIObjectHandle function;
    TVMFFIAny entry;
    snprintf(weights, sizeof weights, "%s.weights", path);
    const DLDevice device = tvm_device(model->device);
    const TVMFFIAny arguments[] = {tvm_object(model->library), tvm_text(weights), tvm_integer(inputs),
                                   tvm_integer(device.device_type), tvm_integer(device.device_id)};
    if (!tvm_module_function(model->library, "open_model", &function, failure))
        return false;
    if (function == NULL)
        return fail(failure, STATUS_MODEL, "cannot load the model: it has no function open_model");
    bool good = tvm_call(function, "cannot load the model", arguments, 5, &entry, failure);
    tvm_release(function);
    if (good)
        model->entry = entry.v_obj;
    else if (failure->status == STATUS_MODEL && strstr(failure->text, ": ValueError: ") != NULL)
        failure->status = STATUS_INPUT; /* the weights file, or the number of inputs */
    return good;
}

/* A symbol of a library that has been loaded, or NULL. */
static const char *library_text(const char *path, const char *name)
{
    void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
    const char *text = library != NULL ? dlsym(library, name) : NULL;
    if (library != NULL)
        dlclose(library); /* the model still holds it */
    return text;
}

bool model_load(struct model *model, const char *path, enum device device, int inputs, struct failure *failure)
{
    *model = (struct model){.device = device};
    if (!elf_check(path, failure) || !tvm_open(failure) || !tvm_open_device(device, failure))
        return false;
    load_extra_runtime();
    char full[PATH_MAX]; /* the loader searches its own directories for a name without a slash */
    if (realpath(path, full) == NULL)
        return fail(failure, STATUS_INPUT, "%s cannot be opened: %s", path, strerror(errno));
    if (!tvm_load_module(full, &model->library, failure) || !open_model(model, full, inputs, failure))
        return false;
    model->index_ranges = library_text(full, "edgepack_index_ranges");
    return true;
}

bool model_set_inputs(struct model *model, const struct tensor_type *types, int count,
                      struct failure *failure)
{
    for (; model->input_count < count; model->input_count++)
        if (!tvm_tensor(&types[model->input_count], model->device, &model->inputs[model->input_count],
                        failure))
            return false;
    return true;
}

static void drop_outputs(struct model *model)
{
    while (model->output_count > 0)
        tvm_release(model->outputs[--model->output_count]);
}

static bool keep_output(struct model *model, TVMFFIAny result, struct failure *failure);

static bool keep_tuple(struct model *model, TVMFFIAny tuple, struct failure *failure)
{
    TVMFFIAny size;
    bool good = tvm_call_global("ffi.ArraySize", "cannot read the outputs", &tuple, 1, &size, failure);
    for (int64_t i = 0; good && i < size.v_int64; i++) {
        const TVMFFIAny arguments[] = {tuple, tvm_integer(i)};
        TVMFFIAny item;
        good = tvm_call_global("ffi.ArrayGetItem", "cannot read the outputs", arguments, 2, &item, failure) &&
               keep_output(model, item, failure);
    }
    tvm_release(tuple.v_obj);
    return good;
}

/* Appends `result` to the outputs and takes ownership of its reference; tuples are flattened. */
static bool keep_output(struct model *model, TVMFFIAny result, struct failure *failure)
{
    if (result.type_index == kTVMFFIArray)
        return keep_tuple(model, result, failure);
    if (result.type_index == kTVMFFITensor && model->output_count < MAX_TENSORS) {
        model->outputs[model->output_count++] = result.v_obj;
        return true;
    }
    if (result.type_index >= kTVMFFIStaticObjectBegin)
        tvm_release(result.v_obj);
    return fail(failure, STATUS_MODEL,
                result.type_index == kTVMFFITensor ? "the model has more outputs than the agent supports"
                                                   : "the model has an output that is not a tensor");
}

bool model_run(struct model *model, struct failure *failure)
{
    TVMFFIAny arguments[MAX_TENSORS];
    TVMFFIAny result;
    drop_outputs(model);
    for (int i = 0; i < model->input_count; i++)
        arguments[i] = tvm_object(model->inputs[i]);
    if (!tvm_call(model->entry, "the inference failed", arguments, model->input_count, &result, failure))
        return false;
    return keep_output(model, result, failure) && tvm_synchronise(model->device, failure);
}

void model_free(struct model *model)
{
    drop_outputs(model);
    while (model->input_count > 0)
        tvm_release(model->inputs[--model->input_count]);
    tvm_release(model->entry);
    tvm_release(model->library);
    *model = (struct model){0};
}
