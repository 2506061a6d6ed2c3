"""Small models and what they compute: compiled for a CPU, on the emulated GPU, in onnxruntime."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgepack.config.target import load_target
from edgepack.emulation import EmulatedGpu, build_module, install_driver
from edgepack.export.reference import run_onnx
from edgepack.lower import compile_model
from edgepack.lower.host import open_on_host

ON_GPU = Path(__file__).parents[1] / "emulation" / "run_model.py"
LIBC = "2.28" if os.uname().machine == "x86_64" else "2.36"


def save(path, nodes, inputs, constants=None, *, outputs=None, opset=18):
    """Save a model of these nodes; all their outputs are the model's, if ``outputs`` does not name some."""
    graph = helper.make_graph(
        nodes,
        "values",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in inputs.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in outputs or [n for node in nodes for n in node.output]],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.output[:]
    inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True).graph
    known = {value.name: value for value in inferred.value_info}
    for output in model.graph.output:
        output.CopyFrom(known[output.name])
    onnx.save(model, path)
    return path


def on_cpu(path, inputs, target="x86-64-v3"):
    """Compile the model for a CPU and return its outputs, in order."""
    library = compile_model(path, load_target(target), path.with_suffix(".so")).path
    return open_on_host(library)(*inputs.values())


def on_gpu(path, inputs):
    """The same on the emulated GPU, which reports each access outside of an allocation."""
    folder, arch = path.parent, os.uname().machine
    built = compile_model(path, load_target("host-gpu"), path.with_suffix(".gpu.so"))
    install_driver(folder, arch, LIBC)
    EmulatedGpu("test", "8.7", 256, 1).write(folder)
    for module in built.sources:
        build_module(module.source, hashlib.sha256(module.cubin).hexdigest(), folder, arch, LIBC)
    given, result = folder / "in.npz", folder / "out.npz"
    np.savez(given, **inputs)
    subprocess.run(
        [sys.executable, ON_GPU, built.path, given, result],
        env={**os.environ, "EDGEPACK_GPU": str(folder), "LD_LIBRARY_PATH": str(folder)},
        check=True,
    )
    with np.load(result) as arrays:
        return [arrays[f"arr_{number}"] for number in range(len(arrays.files))]


def reference(path, inputs):
    """Return onnxruntime's outputs."""
    return run_onnx(path, inputs)
