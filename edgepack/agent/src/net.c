#include "net.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

bool net_open(struct net *net, const char *path, int64_t threads, int inputs, struct failure *failure)
{
    char weights[PATH_MAX + sizeof ".weights"], why[EDGEPACK_TEXT] = "";
    if (net->of->input_count(net->of->net) != inputs)
        return fail(failure, STATUS_INPUT, "cannot load the model: it has %d inputs, and %d are given",
                    net->of->input_count(net->of->net), inputs);
    snprintf(weights, sizeof weights, "%s.weights", path);
    edgepack_status status = net->of->open(net->of->net, weights, (int)threads, &net->model, why);
    if (status == EDGEPACK_OK)
        return true;
    return fail(failure, status == EDGEPACK_WEIGHTS ? STATUS_INPUT : STATUS_MODEL, "cannot load the model: %s", why);
}

static bool type_of(const edgepack_tensor *tensor, struct tensor_type *type, struct failure *failure)
{
    const DLDataType element = {tensor->code, tensor->bits, 1};
    return tensor_type_of(type, element, tensor->rank, tensor->shape, failure);
}

static void describe(const struct tensor_type *type, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "%s [", type->dtype->name);
    for (int axis = 0; axis < type->rank && used < size; axis++)
        used += (size_t)snprintf(text + used, size - used, "%s%lld", axis > 0 ? ", " : "",
                                 (long long)type->shape[axis]);
    if (used < size)
        snprintf(text + used, size - used, "]");
}

bool net_check_inputs(const struct net *net, const struct tensor_type *types, struct failure *failure)
{
    for (int i = 0; i < net->of->input_count(net->of->net); i++) {
        const edgepack_tensor *wanted = net->of->input_info(net->of->net, i);
        struct tensor_type type;
        if (!type_of(wanted, &type, failure))
            return false;
        if (types[i].dtype == type.dtype && types[i].rank == type.rank &&
            memcmp(types[i].shape, type.shape, (size_t)type.rank * sizeof type.shape[0]) == 0)
            continue;
        char ours[256], theirs[256];
        describe(&type, ours, sizeof ours);
        describe(&types[i], theirs, sizeof theirs);
        return fail(failure, STATUS_INPUT, "input %d (%s) is %s, and the model takes %s", i, wanted->name, theirs,
                    ours);
    }
    return true;
}

bool net_write(struct net *net, int input, const void *data, size_t size, struct failure *failure)
{
    return net->of->set_input(net->model, input, data, size) == EDGEPACK_OK ||
           fail(failure, STATUS_INTERNAL, "input %d has another size than the model's", input);
}

static bool succeeded(edgepack_status status, struct failure *failure)
{
    return status == EDGEPACK_OK || fail(failure, STATUS_MODEL, "the inference failed: out of memory");
}

bool net_run(struct net *net, struct failure *failure)
{
    return succeeded(net->of->run(net->model), failure);
}

int net_kernels(const struct net *net)
{
    return net->of->kernel_count(net->of->net);
}

const char *net_kernel(const struct net *net, int number)
{
    return net->of->kernel_name(net->of->net, number);
}

bool net_profile(struct net *net, uint64_t *times, struct failure *failure)
{
    return succeeded(net->of->profile(net->model, times), failure);
}

int net_outputs(const struct net *net)
{
    return net->of->output_count(net->of->net);
}

bool net_output_type(const struct net *net, int output, struct tensor_type *type, struct failure *failure)
{
    return type_of(net->of->output_info(net->of->net, output), type, failure);
}

bool net_read(const struct net *net, int output, void *data, size_t size, struct failure *failure)
{
    const void *found = net->of->output(net->model, output);
    if (found == NULL || net->of->output_info(net->of->net, output)->size != size)
        return fail(failure, STATUS_INTERNAL, "output %d has another size than the model's", output);
    memcpy(data, found, size);
    return true;
}

void net_close(struct net *net)
{
    if (net->model != NULL)
        net->of->close(net->model);
    *net = (struct net){0};
}
