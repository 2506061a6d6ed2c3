#include "library.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

static const struct {
    const char *name;
    size_t place; /* of its address */
} SYMBOLS[] = {
    {"edgepack_this_net", offsetof(struct net_functions, net)},
    {"edgepack_open", offsetof(struct net_functions, open)},
    {"edgepack_close", offsetof(struct net_functions, close)},
    {"edgepack_input_count", offsetof(struct net_functions, input_count)},
    {"edgepack_output_count", offsetof(struct net_functions, output_count)},
    {"edgepack_input_info", offsetof(struct net_functions, input_info)},
    {"edgepack_output_info", offsetof(struct net_functions, output_info)},
    {"edgepack_set_input", offsetof(struct net_functions, set_input)},
    {"edgepack_run", offsetof(struct net_functions, run)},
    {"edgepack_profile", offsetof(struct net_functions, profile)},
    {"edgepack_kernel_count", offsetof(struct net_functions, kernel_count)},
    {"edgepack_kernel_name", offsetof(struct net_functions, kernel_name)},
    {"edgepack_output", offsetof(struct net_functions, output)},
};

void library_find(struct library *library, const char *path)
{
    *library = (struct library){.handle = dlopen(path, RTLD_LAZY | RTLD_LOCAL)};
    if (library->handle == NULL)
        return; /* another kind of model may need a runtime first */
    for (size_t i = 0; i < sizeof SYMBOLS / sizeof SYMBOLS[0]; i++) {
        void *address = dlsym(library->handle, SYMBOLS[i].name);
        if (address == NULL) {
            library_close(library);
            return;
        }
        /* C has no cast from data to function. */
        memcpy((char *)&library->functions + SYMBOLS[i].place, &address, sizeof address);
    }
    library->functions.index_ranges = dlsym(library->handle, "edgepack_index_ranges");
}

void library_close(struct library *library)
{
    if (library->handle != NULL)
        dlclose(library->handle);
    *library = (struct library){0};
}
