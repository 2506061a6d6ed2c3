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

    def run(self, source, order="forward"):
        arch = os.uname().machine
        install_driver(self.folder, arch, LIBC)
        EmulatedGpu("test", "8.7", 256, 1, order=order).write(self.folder)
        build_module(source, hashlib.sha256(self.cubin).hexdigest(), self.folder, arch, LIBC)
        return self.start()

    def start(self, **environment):
        """Run with the modules that are there."""
        given, result = self.folder / "in.npz", self.folder / "out.npy"
        np.savez(given, X)
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
    path = folder / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    built = compile_model(path, load_target("host-gpu"), folder / "m.so")
    (module,) = built.sources
    return Model(built.path, module.source, module.cubin, folder)


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("product"), "MatMul", WEIGHT)


@pytest.fixture(scope="module")
def softmax(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("softmax"), "Softmax")


@pytest.mark.parametrize(
    "order", ["reverse", *(pytest.param(o, marks=pytest.mark.slow) for o in ("forward", "random:5"))]
)
def test_the_schedules_are_right_in_every_order(product, softmax, order):
    e = np.exp(X.astype(np.float64) - X.max(axis=1, keepdims=True))
    assert (product.source.count(BARRIER), softmax.source.count(BARRIER)) == (2, 6)
    np.testing.assert_allclose(
        softmax.run(softmax.source, order), e / e.sum(axis=1, keepdims=True), atol=1e-6
    )
    np.testing.assert_allclose(product.run(product.source, order), X.astype(np.float64) @ WEIGHT, atol=1e-4)


def race(kernel):
    return rf"kernel {kernel}_kernel has a race: byte \d+ .* \(reverse and forward\)"


# The second and the fifth are left out: around them a thread uses only what it has written itself.
@pytest.mark.parametrize("number", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3, 5))])
def test_a_softmax_without_one_of_its_barriers(softmax, number):
    with pytest.raises(RunError, match=race("softmax")):
        softmax.run(softmax.without_barrier(number), "reverse")


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_product_without_one_of_its_barriers(product, number):
    with pytest.raises(RunError, match=race("matmul")):
        product.run(product.without_barrier(number), "reverse")
    if number:
        assert np.isnan(product.run(product.without_barrier(number))).any(), "garbage"


def changed(model, text, wrong):
    assert text in model.source
    return model.source.replace(text, wrong)


@pytest.mark.parametrize(
    ("index", "wrong", "why"),
    [
        ("softmax_norm_ptr[(", "softmax_norm_ptr[1 + (", "a write of 4 bytes at offset 98304 of an allocation of 98304"),
        ("x_ptr[(", "x_ptr[-1 + (", "a read of 4 bytes 4 bytes before an allocation of"),
        ("staging_ptr[(", "staging_ptr[1 + (", r"index 8 of an array of type 'float\[8\]' in line \d+"),
    ],
)  # fmt: skip
def test_a_softmax_with_an_index_off_by_one(softmax, index, wrong, why):
    with pytest.raises(RunError, match=f"kernel softmax_kernel, block .*, thread .*: {why}"):
        softmax.run(changed(softmax, index, wrong))


@pytest.mark.parametrize(
    ("index", "wrong", "why"),
    [
        ("ax3_0 < 12;", "ax3_0 <= 12;", "a read of .* bytes at offset 98304 of an allocation"),
        pytest.param(
            "x_reindex_shared_ptr + (", "x_reindex_shared_ptr + 1 + (",
            "a write of 8 bytes at an address that is no multiple of 8", marks=pytest.mark.slow,
        ),
        pytest.param(
            "B_reindex_shared_ptr + (", "B_reindex_shared_ptr + 4 + (",
            "a write of 8 bytes at offset 4608 of a shared array of 4608", marks=pytest.mark.slow,
        ),
        pytest.param(
            "local_ptr[7] = __", "local_ptr[9] = __", r"index 9 of an array of type 'float2\[8\]' in line \d+",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_a_product_with_an_index_off_by_one(product, index, wrong, why):
    with pytest.raises(RunError, match=f"kernel matmul_kernel, block .*, thread .*: {why}"):
        product.run(changed(product, index, wrong))


@pytest.mark.slow
def test_an_index_off_by_one_within_its_array_reads_garbage(product):
    got = product.run(changed(product, "x_reindex_shared_ptr[(", "x_reindex_shared_ptr[1 + ("))
    assert np.isnan(got).any(), "what lies between the rows of the tile"


def test_blocks_that_write_the_same_row(softmax):
    index = "T_softmax_norm_ptr[((((int)blockIdx.x)"
    with pytest.raises(RunError, match=race("softmax")):
        softmax.run(changed(softmax, index, index + " / 2"), "reverse")
