#include "runtime.h"

#include "libraries.h"

bool runtime_exists(void)
{
    return false;
}

bool runtime_loads(const char *library)
{
    return libraries_find("", library);
}

bool runtime_version(char *text, size_t size, struct failure *failure)
{
    (void)text, (void)size;
    return fail(failure, STATUS_MODEL, "this agent is static, and loads no TVM runtime");
}
