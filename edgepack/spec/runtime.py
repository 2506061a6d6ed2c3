"""The runtime libraries a compiled model may need on the board, by file name."""

BASE = (
    "libtvm_ffi.so",
    "libtvm_runtime.so",
)  # every model of the virtual machine: the C ABI, the machine, threads
EXTRA = "libtvm_runtime_extra.so"  # those that sort, or draw random numbers
CUDA = "libtvm_runtime_cuda.so"
