#include "model.h"

#include <string.h>

#include "elf_check.h"
#include "linked.h"

bool model_load(struct model *model, const char *path, enum device device, int64_t threads, int inputs,
                struct failure *failure)
{
    unsigned char build_id[BUILD_ID];
    *model = (struct model){0};
    if (!elf_check(path, build_id, failure))
        return false;
    if (device != DEVICE_CPU)
        return fail(failure, STATUS_DEVICE, "this agent is static, and loads no GPU's driver");
    if (&linked_model == NULL)
        return fail(failure, STATUS_MODEL, "this agent is static, and no model is linked with it");
    if (memcmp(build_id, linked_model.build_id, sizeof build_id) != 0)
        return fail(failure, STATUS_MODEL, "this agent is static: it runs the model that it is linked with, and %s is another one",
                    path);
    model->net.of = &linked_model.functions;
    model->index_ranges = linked_model.functions.index_ranges;
    return net_open(&model->net, path, threads, inputs, failure);
}

bool model_set_inputs(struct model *model, const struct tensor_type *types, int count,
                      struct failure *failure)
{
    (void)count; /* net_open has compared it */
    return net_check_inputs(&model->net, types, failure);
}

bool model_write(struct model *model, int input, const void *data, size_t size, struct failure *failure)
{
    return net_write(&model->net, input, data, size, failure);
}

bool model_run(struct model *model, struct failure *failure)
{
    model->output_count = 0;
    if (!net_run(&model->net, failure))
        return false;
    model->output_count = net_outputs(&model->net);
    return model->output_count <= MAX_TENSORS ||
           fail(failure, STATUS_MODEL, "the model has more outputs than the agent supports");
}

bool model_output_type(const struct model *model, int output, struct tensor_type *type, struct failure *failure)
{
    return net_output_type(&model->net, output, type, failure);
}

bool model_read(const struct model *model, int output, void *data, size_t size, struct failure *failure)
{
    return net_read(&model->net, output, data, size, failure);
}

void model_free(struct model *model)
{
    net_close(&model->net);
    *model = (struct model){0};
}
