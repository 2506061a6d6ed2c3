#include "runtime.h"

bool runtime_exists(void)
{
    return false;
}

bool runtime_loads(const char *library)
{
    (void)library;
    return false;
}

bool runtime_version(char *text, size_t size, struct failure *failure)
{
    (void)text, (void)size;
    return fail(failure, STATUS_MODEL, "this agent is static, and loads no TVM runtime");
}
