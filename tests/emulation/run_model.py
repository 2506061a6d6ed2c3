"""Run a compiled model on the emulated GPU, in a process of its own: ``run_model.py LIBRARY IN.npz OUT.npy``.

``OUT.npz`` gets all outputs, ``OUT.npy`` the first one.
"""

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
    outputs = [each.numpy() for each in ([got] if hasattr(got, "numpy") else got)]
    if result.endswith(".npz"):
        np.savez(result, *outputs)
    else:
        np.save(result, outputs[0])


if __name__ == "__main__":
    _main(*sys.argv[1:])
