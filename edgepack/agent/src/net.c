#include "net.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* The functions of the model's own runtime, looked up when it is loaded. */
static struct {
    edgepack_status (*open)(const edgepack_net *, const char *, int, edgepack_model **, char *);
    void (*close)(edgepack_model *);
    int (*input_count)(const edgepack_net *);
    int (*output_count)(const edgepack_net *);
    const edgepack_tensor *(*input_info)(const edgepack_net *, int);
    const edgepack_tensor *(*output_info)(const edgepack_net *, int);
    edgepack_status (*set_input)(edgepack_model *, int, const void *, size_t);
    edgepack_status (*run)(edgepack_model *);
    const void *(*output)(const edgepack_model *, int);
} api;

static const struct {
    const char *name;
    void *function; /* where its address is stored */
} SYMBOLS[] = {
    {"edgepack_open", &api.open},
    {"edgepack_close", &api.close},
    {"edgepack_input_count", &api.input_count},
    {"edgepack_output_count", &api.output_count},
    {"edgepack_input_info", &api.input_info},
    {"edgepack_output_info", &api.output_info},
    {"edgepack_set_input", &api.set_input},
    {"edgepack_run", &api.run},
    {"edgepack_output", &api.output},
};

void net_find(struct net *net, const char *path)
{
    *net = (struct net){.library = dlopen(path, RTLD_LAZY | RTLD_LOCAL)};
    if (net->library == NULL)
        return; /* another kind of model may need a runtime first */
    net->net = dlsym(net->library, "edgepack_this_net");
    for (size_t i = 0; net->net != NULL && i < sizeof SYMBOLS / sizeof SYMBOLS[0]; i++) {
        void *address = dlsym(net->library, SYMBOLS[i].name);
        if (address == NULL)
            net->net = NULL;
        memcpy(SYMBOLS[i].function, &address, sizeof address); /* C has no cast from data to function */
    }
    if (net->net == NULL) {
        dlclose(net->library);
        net->library = NULL;
    }
}

bool net_open(struct net *net, const char *path, int64_t threads, int inputs, struct failure *failure)
{
    char weights[PATH_MAX + sizeof ".weights"], why[EDGEPACK_TEXT] = "";
    if (api.input_count(net->net) != inputs)
        return fail(failure, STATUS_INPUT, "cannot load the model: it has %d inputs, and %d are given",
                    api.input_count(net->net), inputs);
    snprintf(weights, sizeof weights, "%s.weights", path);
    edgepack_status status = api.open(net->net, weights, (int)threads, &net->model, why);
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
    for (int i = 0; i < api.input_count(net->net); i++) {
        const edgepack_tensor *wanted = api.input_info(net->net, i);
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
    return api.set_input(net->model, input, data, size) == EDGEPACK_OK ||
           fail(failure, STATUS_INTERNAL, "input %d has another size than the model's", input);
}

bool net_run(struct net *net, struct failure *failure)
{
    return api.run(net->model) == EDGEPACK_OK || fail(failure, STATUS_MODEL, "the inference failed: out of memory");
}

int net_outputs(const struct net *net)
{
    return api.output_count(net->net);
}

bool net_output_type(const struct net *net, int output, struct tensor_type *type, struct failure *failure)
{
    return type_of(api.output_info(net->net, output), type, failure);
}

bool net_read(const struct net *net, int output, void *data, size_t size, struct failure *failure)
{
    const void *found = api.output(net->model, output);
    if (found == NULL || api.output_info(net->net, output)->size != size)
        return fail(failure, STATUS_INTERNAL, "output %d has another size than the model's", output);
    memcpy(data, found, size);
    return true;
}

void net_close(struct net *net)
{
    if (net->model != NULL)
        api.close(net->model);
    if (net->library != NULL)
        dlclose(net->library);
    *net = (struct net){0};
}
