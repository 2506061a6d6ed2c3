"""Importing TVM's tensor intrinsics without parsing those of every backend.

``TuneContext`` imports ``tvm.s_tir.tensor_intrin``, whose ``__init__`` parses TVMScript for CUDA, ROCm, Hexagon
and more: 15 to 50 s of CPU. Only a target's own are needed; the package is entered by hand and just those
submodules are imported, which takes about a second.
"""

import importlib
import importlib.util
import sys

from edgepack.target import Target

_PACKAGE = "tvm.s_tir.tensor_intrin"


def register(target: Target) -> None:
    """Register the tensor intrinsics that TVM has for this target, once a process."""
    names = ["x86" if target.abi.arch == "x86_64" else "arm_cpu"]
    if target.gpu:
        names.append("cuda")
    if _PACKAGE not in sys.modules:
        spec = importlib.util.find_spec(_PACKAGE)
        if spec is None:  # a TVM without them: TuneContext says so itself
            return
        sys.modules[_PACKAGE] = importlib.util.module_from_spec(spec)
    for name in names:
        importlib.import_module(f"{_PACKAGE}.{name}")
