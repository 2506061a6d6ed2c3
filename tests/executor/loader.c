/* Loads libraries of models: loader WEIGHTS LIBRARY LIBRARY; both are the same model. */
#include "check.h"

#include <dlfcn.h>
#include <pthread.h>

struct api {
    void *library;
    const edgepack_net *net;
    edgepack_status (*open)(const edgepack_net *, const char *, int, edgepack_model **, char *);
    void (*close)(edgepack_model *);
    const edgepack_tensor *(*input_info)(const edgepack_net *, int);
    const edgepack_tensor *(*output_info)(const edgepack_net *, int);
    edgepack_status (*set_input)(edgepack_model *, int, const void *, size_t);
    edgepack_status (*run)(edgepack_model *);
    const void *(*output)(const edgepack_model *, int);
};

static const char *weights, *paths[2];
static uint8_t expected[1 << 16];
static pthread_barrier_t barrier;

static void *symbol(const struct api *api, const char *name)
{
    void *found = dlsym(api->library, name);
    CHECK(found != NULL);
    return found;
}

static struct api load(const char *path, int flags)
{
    struct api api = {.library = dlopen(path, RTLD_NOW | flags)};
    if (api.library == NULL)
        fprintf(stderr, "%s\n", dlerror());
    CHECK(api.library != NULL);
    api.net = symbol(&api, "edgepack_this_net");
    *(void **)&api.open = symbol(&api, "edgepack_open");
    *(void **)&api.close = symbol(&api, "edgepack_close");
    *(void **)&api.input_info = symbol(&api, "edgepack_input_info");
    *(void **)&api.output_info = symbol(&api, "edgepack_output_info");
    *(void **)&api.set_input = symbol(&api, "edgepack_set_input");
    *(void **)&api.run = symbol(&api, "edgepack_run");
    *(void **)&api.output = symbol(&api, "edgepack_output");
    return api;
}

static edgepack_model *opened(const struct api *api, int threads)
{
    char why[EDGEPACK_TEXT] = "";
    edgepack_model *model;
    if (api->open(api->net, weights, threads, &model, why) != EDGEPACK_OK)
        fprintf(stderr, "%s\n", why);
    CHECK(model != NULL);
    return model;
}

/* Runs a model on zeros; returns its first output. */
static const void *run(const struct api *api, edgepack_model *model)
{
    static const uint8_t zeros[1 << 16];
    const size_t size = api->input_info(api->net, 0)->size;
    CHECK(size <= sizeof zeros && api->set_input(model, 0, zeros, size) == EDGEPACK_OK);
    CHECK(api->run(model) == EDGEPACK_OK);
    return api->output(model, 0);
}

static bool is_mapped(const char *path)
{
    char line[4096];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL)
        found = found || strstr(line, path) != NULL;
    fclose(maps);
    return found;
}

/* Loads a library, uses it and unloads it, again and again, in a thread that lives on. */
static void *again_and_again(void *path)
{
    for (int i = 0; i < 25; i++) {
        struct api api = load(path, i % 2 == 0 ? RTLD_LOCAL : RTLD_GLOBAL);
        edgepack_model *model = opened(&api, 1 + i % 3);
        CHECK(memcmp(run(&api, model), expected, api.output_info(api.net, 0)->size) == 0);
        api.close(model);
        dlclose(api.library);
    }
    pthread_barrier_wait(&barrier);
    return NULL;
}

/* Two libraries whose symbols have the same names, used at once: each uses its own. */
static void *at_once(void *data)
{
    const struct api *api = data;
    for (int i = 0; i < 25; i++) {
        edgepack_model *model = opened(api, 1 + i % 3);
        CHECK(memcmp(run(api, model), expected, api->output_info(api->net, 0)->size) == 0);
        api->close(model);
    }
    return NULL;
}

int main(int count, char **words)
{
    CHECK(count == 4);
    weights = words[1], paths[0] = words[2], paths[1] = words[3];
    pthread_t two[2];
    struct api apis[2];
    for (int i = 0; i < 2; i++)
        apis[i] = load(paths[i], RTLD_GLOBAL);
    CHECK(apis[0].net != apis[1].net && apis[0].open != apis[1].open);
    edgepack_model *model = opened(&apis[0], 2);
    memcpy(expected, run(&apis[0], model), apis[0].output_info(apis[0].net, 0)->size);
    edgepack_model *wrong = NULL;
    char why[EDGEPACK_TEXT];
    CHECK(apis[0].open(apis[1].net, weights, 1, &wrong, why) == EDGEPACK_OTHER_RUNTIME);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&two[i], NULL, at_once, &apis[i]) == 0);
    for (int i = 0; i < 2; i++)
        pthread_join(two[i], NULL);
    CHECK(memcmp(run(&apis[0], model), expected, apis[0].output_info(apis[0].net, 0)->size) == 0);
    apis[0].close(model);
    for (int i = 0; i < 2; i++)
        dlclose(apis[i].library);

    pthread_barrier_init(&barrier, NULL, 3);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&two[i], NULL, again_and_again, (void *)paths[i]) == 0);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 2; i++)
        pthread_join(two[i], NULL);
    CHECK(!is_mapped(paths[0]) && !is_mapped(paths[1]));
    return 0;
}
