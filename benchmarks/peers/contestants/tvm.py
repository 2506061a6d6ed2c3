"""Stock TVM, untuned: its ONNX importer and ``tvm.compile`` with defaults, in TVM's virtual machine.

int8: TVM no longer has a quantizer, so it imports onnxruntime's Q/DQ model.
"""

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kit.processes import last_line
from benchmarks.peers.contestants.onnxruntime import quantize
from benchmarks.peers.protocol import (
    Assignment,
    Contestant,
    LoadedModel,
    Prepared,
    Unsupported,
    distribution_files,
)

# The versions that edgepack itself uses; onnxruntime and sympy for its quantizer.
REQUIREMENTS = (
    "apache-tvm==0.27.0.post1",
    "apache-tvm-ffi==0.1.14.post1",
    "numpy==2.4.6",
    "onnx==1.23.2",
    "onnxruntime==1.31.1",
    "sympy==1.14.0",
)


class Tvm(Contestant):
    """``tvm.compile`` with its default pipeline."""

    title = "TVM, untuned"
    requirements = REQUIREMENTS

    def prepare(self, task: Assignment) -> Prepared:
        """Import, compile and export as a shared library."""
        return build(task, *source(task))

    def load(self, task: Assignment, prepared: Prepared) -> LoadedModel:
        """Load the library with TVM's runtime only: no compiler, no LLVM in the process."""
        os.environ["TVM_USE_RUNTIME_LIB"] = "1"
        os.environ["TVM_NUM_THREADS"] = str(task.threads)
        os.environ["TVM_BIND_THREADS"] = "0"  # the benchmark has pinned this process; TVM would unpin it
        import tvm
        from tvm.runtime.vm import VirtualMachine

        library, names = prepared.model
        machine = VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())
        return _Function(machine["main"], json.loads(names.read_text(encoding="utf-8")))


class _Function(LoadedModel):
    """The compiled function with its inputs in place."""

    def __init__(self, function: Any, names: list[str]) -> None:
        self._function = function
        self._names = names

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        import tvm

        tensors = [tvm.runtime.tensor(np.ascontiguousarray(inputs[name])) for name in self._names]
        self.infer = partial(self._function, *tensors)  # outputs are in the virtual machine's own pool
        return [tensor.numpy() for tensor in _flat(self.infer())]


def source(task: Assignment) -> tuple[Path, dict[str, Any]]:
    """Return the ONNX model to import, and how it was quantized."""
    if task.precision == "fp32":
        return task.onnx, {}
    model = task.folder / "int8.onnx"
    return model, {"quantization": f"onnxruntime's: {quantize(task, model)}"}


def target() -> dict[str, Any]:
    """Return this machine as a TVM target, with LLVM's name for its CPU."""
    from tvm.target import codegen

    return {"kind": "llvm", "mcpu": codegen.llvm_get_system_cpu(), "num-cores": os.cpu_count()}


def import_model(model: Path) -> Any:
    """Import a model into Relax.

    Raises:
        Unsupported: The importer does not support an operator; the message is its own.
    """
    import onnx
    import tvm
    from tvm.relax.frontend.onnx import from_onnx

    try:
        return from_onnx(onnx.load(model))
    except tvm.error.OpNotImplemented as error:
        raise Unsupported(f"TVM's ONNX importer: {last_line(error)}") from error


def build(task: Assignment, model: Path, notes: dict[str, Any], pipeline: Any = None) -> Prepared:
    """Compile ``model``, after ``pipeline`` if given, and export it."""
    import onnx
    import tvm

    where = target()
    library, names = task.folder / "model.so", task.folder / "inputs.json"
    module = import_model(model)
    if pipeline is not None:
        module = pipeline(module)
    tvm.compile(module, target=tvm.target.Target(where)).export_library(str(library))
    graph = onnx.load(model, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    names.write_text(json.dumps([value.name for value in graph.input if value.name not in constants]))
    # TVM's Python modules and libraries except the compiler, and their dependencies.
    runtime = [
        path
        for path in distribution_files("apache-tvm", "apache-tvm-ffi")
        if path.name != "libtvm_compiler.so" and (path.suffix == ".py" or ".so" in path.name)
    ]
    runtime += distribution_files("ml_dtypes", "typing_extensions")
    notes = {**notes, "tvm": tvm.__version__, "mcpu": where["mcpu"]}
    exact = model if task.precision == "int8" else None
    return Prepared((library, names), tuple(runtime), notes, exact)


def _flat(value: Any) -> list[Any]:
    return [value] if hasattr(value, "numpy") else [leaf for part in value for leaf in _flat(part)]
