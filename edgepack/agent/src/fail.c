#include "fail.h"

#include <stdarg.h>
#include <stdio.h>

bool fail(struct failure *failure, enum status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(failure->text, sizeof failure->text, format, arguments);
    va_end(arguments);
    failure->status = status;
    return false;
}

const char *status_name(enum status status)
{
    switch (status) {
    case STATUS_OK: return "ok";
    case STATUS_INTERNAL: return "internal";
    case STATUS_USAGE: return "usage";
    case STATUS_INPUT: return "input";
    case STATUS_MODEL: return "model";
    case STATUS_OUTPUT: return "output";
    case STATUS_STREAM: return "stream";
    case STATUS_DEVICE: return "device";
    case STATUS_CRASH: return "crash";
    case STATUS_LOCK: return "lock";
    }
    return "internal";
}
