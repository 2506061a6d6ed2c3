/* The calls of TVM's C ABI (tvm/ffi/c_api.h) that the agent needs, with errors as text. */
#ifndef EDGEPACK_TVM_H
#define EDGEPACK_TVM_H

#include <tvm/ffi/c_api.h>

#include "device.h"
#include "dtype.h"
#include "fail.h"

/* Loads the runtime from ../lib; before any other function here. */
bool tvm_open(struct failure *failure);

/* The version that libtvm_ffi.so reports. */
void tvm_version(char *text, size_t size);

TVMFFIAny tvm_integer(int64_t value);
TVMFFIAny tvm_text(const char *value);           /* borrowed */
TVMFFIAny tvm_object(TVMFFIObjectHandle object); /* borrowed; NULL becomes None */

/* Drops a reference; NULL is allowed. */
void tvm_release(TVMFFIObjectHandle object);

/* Calls `function`. An error of TVM becomes STATUS_MODEL with "`doing`: kind: message".
 * `result` is owned by the caller; NULL drops it. */
bool tvm_call(TVMFFIObjectHandle function, const char *doing, const TVMFFIAny *arguments, int count,
              TVMFFIAny *result, struct failure *failure);

/* Looks up a global function and calls it. */
bool tvm_call_global(const char *name, const char *doing, const TVMFFIAny *arguments, int count,
                     TVMFFIAny *result, struct failure *failure);

/* `*function` becomes the function `name` of `module`, or NULL if there is none. */
bool tvm_module_function(TVMFFIObjectHandle module, const char *name, TVMFFIObjectHandle *function,
                         struct failure *failure);

/* Loads the shared library at `path`; its name need not end in .so. */
bool tvm_load_module(const char *path, TVMFFIObjectHandle *module, struct failure *failure);

/* Loads what `device` needs besides libtvm_runtime.so, and checks that the device exists. Call it
 * before a model is loaded and never before a fork. */
bool tvm_open_device(enum device device, struct failure *failure);
DLDevice tvm_device(enum device device);

/* A tensor in the memory of `device`; release it with tvm_release. */
bool tvm_tensor(const struct tensor_type *type, enum device device, TVMFFIObjectHandle *tensor,
                struct failure *failure);
bool tvm_tensor_write(TVMFFIObjectHandle tensor, const void *data, size_t size, struct failure *failure);
bool tvm_tensor_read(TVMFFIObjectHandle tensor, void *data, size_t size, struct failure *failure);
const DLTensor *tvm_tensor_view(TVMFFIObjectHandle tensor);

/* Waits until the device has finished; does nothing on the CPU. */
bool tvm_synchronise(enum device device, struct failure *failure);

#endif
