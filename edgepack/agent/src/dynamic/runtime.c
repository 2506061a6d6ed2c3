#include "runtime.h"

#include <dlfcn.h>

#include "tvm.h"

bool runtime_exists(void)
{
    return true;
}

bool runtime_loads(const char *library)
{
    void *handle = dlopen(library, RTLD_LAZY | RTLD_LOCAL);
    if (handle != NULL)
        dlclose(handle);
    return handle != NULL;
}

bool runtime_version(char *text, size_t size, struct failure *failure)
{
    if (!tvm_open(failure))
        return false;
    tvm_version(text, size);
    return true;
}
