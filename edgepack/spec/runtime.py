"""The runtime libraries a compiled model may need on the board, by file name."""

from typing import Literal

Static = Literal[False, True, "embedded"]
"""Whether a model becomes a static library; ``embedded``: with its weights in it."""

BASE = (
    "libtvm_ffi.so",
    "libtvm_runtime.so",
)  # required by every model: the C ABI, the virtual machine, threads
EXTRA = "libtvm_runtime_extra.so"  # required by models that sort or draw random numbers
CUDA = "libtvm_runtime_cuda.so"
WEIGHTS_SUFFIX = ".weights"
"""Of the weights file of a compiled model: its name is that of the model with this suffix."""
