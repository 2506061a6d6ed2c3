"""Real schedules of TVM with a mistake put into them: each is found on the emulated GPU."""

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from gpu_process import LIBC
from onnx import TensorProto, helper, numpy_helper

from edgepack.config.target import load_target
from edgepack.emulation import Gpu, build_module, install_driver
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

    def run(self, source, order="forward"):
        arch = os.uname().machine
        install_driver(self.folder, arch, LIBC)
        Gpu("test", "8.7", 256, 1, order=order).write(self.folder)
        build_module(source, hashlib.sha256(self.cubin).hexdigest(), self.folder, arch, LIBC)
        given, result = self.folder / "in.npz", self.folder / "out.npy"
        np.savez(given, X)
        done = subprocess.run(
            [sys.executable, PROGRAM, self.library, given, result],
            env={**os.environ, "EDGEPACK_GPU": str(self.folder), "LD_LIBRARY_PATH": str(self.folder)},
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


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Softmax", ["z"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [X.shape[0], WEIGHT.shape[1]])],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10),
        folder / "m.onnx",
    )
    compiled = compile_model(folder / "m.onnx", load_target("host-gpu"), folder / "m.so")
    (module,) = compiled.sources
    (folder / "gpu").mkdir()
    (folder / "m.cu").write_text(module.source)
    return Model(compiled.path, module.source, module.cubin, folder / "gpu")


@pytest.fixture(scope="module")
def right():
    z = X.astype(np.float64) @ WEIGHT
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("order", ["forward", "reverse", "random:5"])
def test_the_schedules_are_right_in_every_order(model, right, order):
    assert model.source.count(BARRIER) == 8, "two of the product, six of the softmax"
    np.testing.assert_allclose(model.run(model.source, order), right, atol=2e-5)


# The barriers before and after which a thread uses only what it has written itself are left out: the fourth and seventh.
@pytest.mark.parametrize("number", [0, 1, 2, 4, 5, 7])
def test_a_schedule_without_one_of_its_barriers(model, number):
    kernel = "matmul_kernel" if number < 2 else "softmax_kernel"
    with pytest.raises(RunError, match=rf"kernel {kernel} has a race: byte \d+ .* \(reverse and forward\)"):
        model.run(model.without_barrier(number), "reverse")


def test_a_schedule_without_a_barrier_reads_garbage(model):
    assert np.isnan(model.run(model.without_barrier(1))).any()


@pytest.mark.parametrize(
    ("index", "wrong", "why"),
    [
        ("T_softmax_norm_ptr[(", "T_softmax_norm_ptr[1 + (", "kernel softmax_kernel, .* a write .* at offset 65536 of"),
        ("lv_ptr[(", "lv_ptr[-1 + (", "kernel softmax_kernel, .* a read .* 4 bytes before an allocation of"),
        ("ax3_0 < 12;", "ax3_0 <= 12;", "kernel matmul_kernel, .* a read of .* bytes .* an allocation of"),
        ("x_reindex_shared_ptr + (", "x_reindex_shared_ptr + 1 + (", "a write of 8 bytes at an address that is no mult"),
        ("B_reindex_shared_ptr + (", "B_reindex_shared_ptr + 2 + (", "a write of 8 bytes at offset 4608 of a shared"),
        ("local_ptr[7] = __", "local_ptr[8] = __", r"index 8 of an array of type 'float2\[8\]' in line \d+"),
        ("red_buf_staging_ptr[", "red_buf_staging_ptr[1 + ", r"index 8 of an array of type 'float\[8\]' in line \d+"),
    ],
)  # fmt: skip
def test_a_schedule_with_an_index_off_by_one(model, index, wrong, why):
    assert index in model.source
    with pytest.raises(RunError, match=why):
        model.run(model.source.replace(index, wrong))


def test_a_schedule_whose_index_stays_in_its_array(model, right):
    index = "x_reindex_shared_ptr[("
    assert index in model.source
    got = model.run(model.source.replace(index, "x_reindex_shared_ptr[1 + ("))
    assert np.isnan(got).any(), "what lies between the rows of the tile is garbage"


def test_a_schedule_whose_blocks_write_the_same_row(model):
    index = "T_softmax_norm_ptr[((((int)blockIdx.x)"
    assert index in model.source
    with pytest.raises(RunError, match="kernel softmax_kernel has a race: byte 0 of"):
        model.run(model.source.replace(index, index + " / 2"), "reverse")
