"""The zoo's networks and single cases on the emulated GPU, and how the coverage page shows them."""

import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.coverage import cases, gpu_page
from benchmarks.coverage.boards import place
from benchmarks.coverage.contestants import GPU_TARGET, edgepack
from benchmarks.coverage.networks import VARIANTS, ZooModel, measure
from edgepack.agent import protocol
from edgepack.export.reference import run_onnx
from edgepack.lower import compile_model
from edgepack.toolchain import cuda, nvrtc

_LONG = ("resnet50", "vgg16")  # minutes each: `make coverage` runs them


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    if os.uname().machine != "x86_64":
        pytest.skip("the target host-gpu is for x86-64")
    if not (cuda.nvcc() or nvrtc.library()):
        pytest.skip("no CUDA compiler: pip install 'edgepack[cuda]'")
    return place(tmp_path_factory.mktemp("board"), GPU_TARGET)


def check(board, variant, folder):
    row = measure(board, variant, folder, limit_s=300)
    assert row["status"] == "passed", row
    return row


@pytest.mark.parametrize("variant", [ZooModel("digits", "fp16"), ZooModel("digits", "fp16", tuned=True)])
def test_digits_in_half_precision(board, variant, tmp_path):
    row = check(board, variant, tmp_path)
    assert row["error"] < 1e-3
    assert row.get("records", 0) == (row["kernels"] if variant.tuned else 0)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.net not in _LONG], ids=lambda v: v.name)
def test_the_zoo_in_every_precision(board, variant, tmp_path):
    check(board, variant, tmp_path)


@pytest.mark.parametrize("name", ["test_cumsum_2d_axis_0", "test_convtranspose", "test_top_k"])
def test_cases_run_on_the_gpu(board, name):
    (case,) = cases.collect(f"^{name}$")
    assert edgepack(case, lambda _partial: None, board=board) == {"status": "passed"}


SIZES = {"a": (7, 8), "b": (10, 3), "c": (13, 4), "d": (2, 21)}  # of images of 4 x 6


@pytest.mark.parametrize("mode", ["half_pixel", "asymmetric", "align_corners"])
def test_pixels_just_between_two_are_rounded_as_onnxruntime_does(board, mode, tmp_path):
    path = tmp_path / "resize.onnx"
    nodes, constants, outputs = [], [], []
    for name, size in SIZES.items():
        constants.append(numpy_helper.from_array(np.array([1, 1, *size]), f"size_{name}"))
        settings = {"mode": "nearest", "coordinate_transformation_mode": mode}
        nodes.append(helper.make_node("Resize", ["x", "", "", f"size_{name}"], [name], **settings))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 1, *size)))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 1, 4, 6))
    graph = helper.make_graph(nodes, "resize", [x], outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    image = np.arange(24, dtype="float32").reshape(1, 1, 4, 6)
    with board.model(compile_model(path, board.target, tmp_path / "model.so")) as on:
        got = protocol.run(on, {"x": image})
    for name, ours, wanted in zip(SIZES, got, run_onnx(path, {"x": image}), strict=True):
        assert np.array_equal(ours, wanted), name


def _row(name, cpu, gpu):
    return {"name": name, "edgepack": {"status": cpu}, "gpu": {"status": gpu, "why": "output 0: bad"}}


def test_the_page_names_cases_that_only_the_cpu_computes():
    rows = [_row("a", "passed", "passed"), _row("b", "wrong", "wrong"), _row("c", "passed", "wrong")]
    rows.append({"name": "d", "edgepack": {"status": "passed"}})
    assert "| passed | 3 | 1 |" in gpu_page.counts(rows)
    assert "| not run | 0 | 1 |" in gpu_page.counts(rows)
    assert gpu_page.differences(rows).endswith("- wrong: output 0: bad: `c`")
    assert "passes on the GPU, too" in gpu_page.differences(rows[:2])


def test_the_page_has_a_row_for_each_network():
    done = {"status": "passed", "error": 1.23e-6, "same": 0.5, "run_s": 0.123}
    rows = [
        {"net": "one", "precision": "fp32", "tuned": False, **done},
        {"net": "one", "precision": "int8", "tuned": False, **done, "error": 0.0},
        {"net": "two", "precision": "fp32", "tuned": False, "status": "refused", "why": "no such operator"},
        {"net": "one", "precision": "fp16", "tuned": True, **done, "status": "wrong"},
    ]
    assert gpu_page.networks(rows).splitlines()[2:] == [
        "| one | 1.2e-06; 0.12 s | not run | 0, 50.0% equal; 0.12 s |",
        "| two | refused: no such operator | not run | not run |",
        "| one, records | not run | wrong: 1.2e-06; 0.12 s | not run |",
    ]
