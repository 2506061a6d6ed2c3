"""Run a compiled model on the emulated GPU, in a process of its own: ``run_model.py LIBRARY IN.npz OUT.npy``.

``OUT.npz`` gets all outputs, ``OUT.npy`` the first one.
"""

import sys
from pathlib import Path

import numpy as np
import tvm

from edgepack.lower.host import open_on_host


def _main(library, given, result):
    gpu = tvm.cuda(0)
    machine = open_on_host(Path(library), gpu)
    with np.load(given) as arrays:
        outputs = machine(*(arrays[name] for name in arrays.files))
    if result.endswith(".npz"):
        np.savez(result, *outputs)
    else:
        np.save(result, outputs[0])


if __name__ == "__main__":
    _main(*sys.argv[1:])
