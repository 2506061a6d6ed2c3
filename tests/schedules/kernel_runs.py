"""Run the functions of a library on saved arguments; prints how far each result is from the expected one.

A program of its own, so that it runs on emulated CPUs, and without the compiler: TVM's runtime alone.

kernel_runs.py LIBRARY ARGUMENTS.npz
"""

import ctypes
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import tvm_ffi

# Kernels call the runtime's thread pool, which registers itself when loaded. ``import tvm`` takes minutes here.
(PACKAGE,) = importlib.util.find_spec("tvm").submodule_search_locations
ctypes.CDLL(str(next(Path(PACKAGE).rglob("libtvm_runtime.so"))), ctypes.RTLD_GLOBAL)


def aligned(value):
    """Return a copy aligned for vector loads; numpy guarantees 16 bytes, and kernels are compiled for 64."""
    memory = np.empty(value.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + value.nbytes].view(value.dtype).reshape(value.shape)
    copy[...] = value
    return copy


def main(library, arguments):
    module = tvm_ffi.load_module(library)
    found = {}
    with np.load(arguments) as saved:
        for name in sorted({key.partition("/")[0] for key in saved.files}):
            values = [
                saved[f"{name}/{i}"]
                for i in range(sum(key.startswith(f"{name}/") for key in saved.files) - 1)
            ]
            expected = saved[f"{name}/expected"]
            tensors = [tvm_ffi.from_dlpack(aligned(value)) for value in values]
            module[name](*tensors)
            got = np.from_dlpack(tensors[-1]).astype(np.float64)
            found[name] = float((np.abs(got - expected) / (1e-6 + 2e-5 * np.abs(expected))).max(initial=0.0))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
