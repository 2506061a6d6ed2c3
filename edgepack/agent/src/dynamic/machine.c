#include "machine.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sorting and random operators are in a separate library, which a bundle includes if needed. */
static void load_extra_runtime(void)
{
    dlopen("libtvm_runtime_extra.so", RTLD_LAZY | RTLD_GLOBAL);
}

/* Starts the model: the library reads its weights file, which has its name with ".weights" after it. */
static bool open_model(struct machine *machine, const char *path, int inputs, struct failure *failure)
{
    char weights[PATH_MAX + sizeof ".weights"];
    TVMFFIObjectHandle function;
    TVMFFIAny entry;
    snprintf(weights, sizeof weights, "%s.weights", path);
    const DLDevice device = tvm_device(machine->device);
    const TVMFFIAny arguments[] = {tvm_object(machine->library), tvm_text(weights), tvm_integer(inputs),
                                   tvm_integer(device.device_type), tvm_integer(device.device_id)};
    if (!tvm_module_function(machine->library, "open_model", &function, failure))
        return false;
    if (function == NULL)
        return fail(failure, STATUS_MODEL, "cannot load the model: it has no function open_model");
    bool good = tvm_call(function, "cannot load the model", arguments, 5, &entry, failure);
    tvm_release(function);
    if (good)
        machine->entry = entry.v_obj;
    else if (failure->status == STATUS_MODEL && strstr(failure->text, ": ValueError: ") != NULL)
        failure->status = STATUS_INPUT; /* the weights file, or the number of inputs */
    return good;
}

bool machine_load(struct machine *machine, const char *path, enum device device, int inputs,
                  struct failure *failure)
{
    *machine = (struct machine){.device = device};
    if (!tvm_open(failure) || !tvm_open_device(device, failure))
        return false;
    load_extra_runtime();
    return tvm_load_module(path, &machine->library, failure) && open_model(machine, path, inputs, failure);
}

bool machine_set_inputs(struct machine *machine, const struct tensor_type *types, int count,
                      struct failure *failure)
{
    for (; machine->input_count < count; machine->input_count++)
        if (!tvm_tensor(&types[machine->input_count], machine->device, &machine->inputs[machine->input_count],
                        failure))
            return false;
    return true;
}

static void drop_outputs(struct machine *machine)
{
    while (machine->output_count > 0)
        tvm_release(machine->outputs[--machine->output_count]);
}

static bool keep_output(struct machine *machine, TVMFFIAny result, struct failure *failure);

static bool keep_tuple(struct machine *machine, TVMFFIAny tuple, struct failure *failure)
{
    TVMFFIAny size;
    bool good = tvm_call_global("ffi.ArraySize", "cannot read the outputs", &tuple, 1, &size, failure);
    for (int64_t i = 0; good && i < size.v_int64; i++) {
        const TVMFFIAny arguments[] = {tuple, tvm_integer(i)};
        TVMFFIAny item;
        good = tvm_call_global("ffi.ArrayGetItem", "cannot read the outputs", arguments, 2, &item, failure) &&
               keep_output(machine, item, failure);
    }
    tvm_release(tuple.v_obj);
    return good;
}

/* Appends `result` to the outputs and takes ownership of its reference; tuples are flattened. */
static bool keep_output(struct machine *machine, TVMFFIAny result, struct failure *failure)
{
    if (result.type_index == kTVMFFIArray)
        return keep_tuple(machine, result, failure);
    if (result.type_index == kTVMFFITensor && machine->output_count < MAX_TENSORS) {
        machine->outputs[machine->output_count++] = result.v_obj;
        return true;
    }
    if (result.type_index >= kTVMFFIStaticObjectBegin)
        tvm_release(result.v_obj);
    return fail(failure, STATUS_MODEL,
                result.type_index == kTVMFFITensor ? "the model has more outputs than the agent supports"
                                                   : "the model has an output that is not a tensor");
}

bool machine_run(struct machine *machine, struct failure *failure)
{
    TVMFFIAny arguments[MAX_TENSORS];
    TVMFFIAny result;
    drop_outputs(machine);
    for (int i = 0; i < machine->input_count; i++)
        arguments[i] = tvm_object(machine->inputs[i]);
    if (!tvm_call(machine->entry, "the inference failed", arguments, machine->input_count, &result, failure))
        return false;
    return keep_output(machine, result, failure) && tvm_synchronise(machine->device, failure);
}

bool machine_write(struct machine *machine, int input, const void *data, size_t size, struct failure *failure)
{
    return tvm_tensor_write(machine->inputs[input], data, size, failure);
}

bool machine_output_type(const struct machine *machine, int output, struct tensor_type *type,
                         struct failure *failure)
{
    const DLTensor *view = tvm_tensor_view(machine->outputs[output]);
    return tensor_type_of(type, view->dtype, view->ndim, view->shape, failure);
}

bool machine_read(const struct machine *machine, int output, void *data, size_t size, struct failure *failure)
{
    return tvm_tensor_read(machine->outputs[output], data, size, failure);
}

void machine_free(struct machine *machine)
{
    drop_outputs(machine);
    while (machine->input_count > 0)
        tvm_release(machine->inputs[--machine->input_count]);
    tvm_release(machine->entry);
    tvm_release(machine->library);
    *machine = (struct machine){0};
}
