#include "model.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "elf_check.h"
#include "library.h"
#include "machine.h"

struct loaded {
    struct library library; /* one of the two */
    struct machine machine;
};

/* A symbol of a library that has been loaded, or NULL. */
static const char *library_text(const char *path, const char *name)
{
    void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
    const char *text = library != NULL ? dlsym(library, name) : NULL;
    if (library != NULL)
        dlclose(library); /* the model still holds it */
    return text;
}

static bool has_runtime(const struct model *model)
{
    return model->net.of != NULL;
}

static struct machine *machine_of(const struct model *model)
{
    return &model->loaded->machine;
}

bool model_load(struct model *model, const char *path, enum device device, int64_t threads, int inputs,
                struct failure *failure)
{
    char full[PATH_MAX]; /* the loader searches its own directories for a name without a slash */
    *model = (struct model){0};
    if (!elf_check(path, NULL, failure))
        return false;
    if (realpath(path, full) == NULL)
        return fail(failure, STATUS_INPUT, "%s cannot be opened: %s", path, strerror(errno));
    model->loaded = calloc(1, sizeof *model->loaded);
    if (model->loaded == NULL)
        return fail(failure, STATUS_INTERNAL, "out of memory");
    library_find(&model->loaded->library, full);
    if (model->loaded->library.handle != NULL)
        model->net.of = &model->loaded->library.functions;
    if (!(has_runtime(model) ? net_open(&model->net, full, threads, inputs, failure)
                             : machine_load(machine_of(model), full, device, inputs, failure)))
        return false;
    model->index_ranges = has_runtime(model) ? model->net.of->index_ranges : library_text(full, "edgepack_index_ranges");
    return true;
}

bool model_set_inputs(struct model *model, const struct tensor_type *types, int count,
                      struct failure *failure)
{
    return has_runtime(model) ? net_check_inputs(&model->net, types, failure)
                              : machine_set_inputs(machine_of(model), types, count, failure);
}

bool model_write(struct model *model, int input, const void *data, size_t size, struct failure *failure)
{
    return has_runtime(model) ? net_write(&model->net, input, data, size, failure)
                              : machine_write(machine_of(model), input, data, size, failure);
}

bool model_run(struct model *model, struct failure *failure)
{
    bool good = has_runtime(model) ? net_run(&model->net, failure) : machine_run(machine_of(model), failure);
    model->output_count = !good                ? 0
                          : has_runtime(model) ? net_outputs(&model->net)
                                               : machine_of(model)->output_count;
    if (model->output_count > MAX_TENSORS)
        return fail(failure, STATUS_MODEL, "the model has more outputs than the agent supports");
    return good;
}

bool model_output_type(const struct model *model, int output, struct tensor_type *type, struct failure *failure)
{
    return has_runtime(model) ? net_output_type(&model->net, output, type, failure)
                              : machine_output_type(machine_of(model), output, type, failure);
}

bool model_read(const struct model *model, int output, void *data, size_t size, struct failure *failure)
{
    return has_runtime(model) ? net_read(&model->net, output, data, size, failure)
                              : machine_read(machine_of(model), output, data, size, failure);
}

void model_free(struct model *model)
{
    net_close(&model->net);
    if (model->loaded != NULL) {
        machine_free(&model->loaded->machine);
        library_close(&model->loaded->library);
    }
    free(model->loaded);
    *model = (struct model){0};
}
