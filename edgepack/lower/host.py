"""Run a compiled model in this process, for tests and benchmarks; boards run it with the agent."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgepack.weightfile.file import weights_path


def open_on_host(library: Path, device: Any = None) -> Callable[..., Any]:
    """Load a compiled model with its weights; returns it as a function of its inputs, which are TVM tensors.

    Args:
        library: built for this machine.
        device: of TVM; the CPU if None.
    """
    import tvm

    where = device or tvm.cpu()
    module = tvm.runtime.load_module(str(library))
    opening = module.get_function("open_model", query_imports=True)
    opened: Callable[..., Any] = opening(
        module, str(weights_path(library)), -1, where.dlpack_device_type(), where.index
    )
    return opened
