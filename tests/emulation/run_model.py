"""Run a compiled model on the emulated GPU, in a process of its own: ``run_model.py LIBRARY IN.npz OUT.npy``."""

import sys

import numpy as np
import tvm
from tvm import relax


def _main(library, given, result):
    gpu = tvm.cuda(0)
    machine = relax.VirtualMachine(tvm.runtime.load_module(library), [gpu, tvm.cpu()])
    with np.load(given) as arrays:
        inputs = [tvm.runtime.tensor(arrays[name], gpu) for name in arrays.files]
    got = machine["main"](*inputs)
    np.save(result, (got if hasattr(got, "numpy") else got[0]).numpy())


if __name__ == "__main__":
    _main(*sys.argv[1:])
