"""Models compiled for a GPU and run on the emulated one, in a process of their own."""

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from gpu_process import LIBC
from onnx import TensorProto, helper, numpy_helper

from edgepack.config.target import load_target
from edgepack.emulation import EmulatedGpu, build_module, install_driver
from edgepack.lower import compile_model

PROGRAM = Path(__file__).with_name("run_model.py")
WEIGHT = np.random.default_rng(0).standard_normal((192, 128)).astype(np.float32)
X = np.random.default_rng(1).standard_normal((128, 192)).astype(np.float32)
BARRIER = "__syncthreads();"


class RunError(Exception):
    """The model failed on the emulated GPU."""


@dataclass
class Model:
    """A compiled model, its kernels' source, and the folder of an emulated GPU."""

    library: Path
    source: str
    cubin: bytes
    folder: Path

    def run(self, source=None, order="forward", x=X):
        """Run with this source, by default its own, on ``x``."""
        source = self.source if source is None else source
        arch = os.uname().machine
        install_driver(self.folder, arch, LIBC)
        EmulatedGpu("test", "8.7", 256, 1, order=order).write(self.folder)
        build_module(source, hashlib.sha256(self.cubin).hexdigest(), self.folder, arch, LIBC)
        return self.start(x)

    def start(self, x=X, **environment):
        """Run with the modules that are there."""
        given, result = self.folder / "in.npz", self.folder / "out.npy"
        np.savez(given, x)
        done = subprocess.run(
            [sys.executable, PROGRAM, self.library, given, result],
            env={
                **os.environ,
                "EDGEPACK_GPU": str(self.folder),
                "LD_LIBRARY_PATH": str(self.folder),
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RunError(done.stderr)
        return np.load(result)

    def without_barrier(self, number):
        at = [found.start() for found in re.finditer(re.escape(BARRIER), self.source)][number]
        return self.source[:at] + " " * len(BARRIER) + self.source[at + len(BARRIER) :]


def compiled(folder, node, *weights):
    """Compile a model of one node whose first input is ``X``."""
    width = weights[0].shape[1] if weights else X.shape[1]
    graph = helper.make_graph(
        [helper.make_node(node, ["x", *(f"w{i}" for i in range(len(weights)))], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [X.shape[0], width])],
        [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)],
    )
    return built_for_gpu(graph, folder)


def built_for_gpu(graph, folder):
    """Compile a graph for the emulated GPU."""
    path = folder / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    built = compile_model(path, load_target("host-gpu"), folder / "m.so")
    (module,) = built.sources
    return Model(built.path, module.source, module.cubin, folder)


def race(kernel):
    """The words of a race in a kernel."""
    return rf"kernel {kernel}_kernel has a race: byte \d+ .* \(reverse and forward\)"
