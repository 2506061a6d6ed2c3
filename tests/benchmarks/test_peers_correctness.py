"""Comparison of outputs, and the minimum time of a net."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from onnx import TensorProto, helper, numpy_helper

from benchmarks.kit import correctness
from benchmarks.kit.correctness import (
    Distance,
    compare_exact,
    distance,
    outputs,
    rows,
    save_outputs,
    worse,
)
from benchmarks.peers.roofline import model_bytes, roofline

arrays = npst.arrays(np.float32, (2, 3), elements=st.floats(-100, 100, width=32))


@given(arrays)
def test_an_array_is_at_no_distance_from_itself(array):
    found = distance([array], [array])
    assert found.relative == 0
    assert found.cosine == pytest.approx(1)
    assert found.sqnr_db is None
    assert found.wrong("fp32") is None
    assert found.wrong("int8") is None


def test_fp32_bounds_the_error_and_int8_the_direction():
    want = np.array([[1.0, -2.0, 4.0]], np.float32)
    near = distance([want + 0.002], [want])
    assert near.relative == pytest.approx(0.0005, rel=1e-3)
    assert near.wrong("fp32") is None
    coarse = distance([want + 0.2], [want])
    assert coarse.wrong("fp32") == "relative error 5.00e-02, above 1e-03"
    assert coarse.wrong("int8") is None
    assert coarse.sqnr_db == pytest.approx(10 * np.log10(21 / 0.12), rel=1e-3)
    away = distance([-want], [want])
    assert away.wrong("int8") == "cosine -1.0000, below 0.9"


def test_what_is_not_finite_or_of_another_shape_is_wrong():
    want = np.ones((1, 3), np.float32)
    for bad in (np.nan, np.inf):
        found = distance([want * np.float32(bad)], [want])
        assert found.wrong("fp32") == "relative error not finite, above 1e-03"
        assert found.wrong("int8") == "cosine not finite, below 0.9"
    assert distance([np.ones(3, np.float32)], [want]).wrong("fp32") is None  # a batch of 1 may be dropped
    assert "[1, 4] instead of [1, 3]" in distance([np.ones((1, 4))], [want]).wrong("fp32")
    assert "[3, 1, 2]" in distance([np.ones((3, 1, 2))], [np.ones((2, 3))]).wrong("int8")
    assert distance([], [want]).wrong("fp32") == "0 outputs instead of 1"
    assert distance([want], [0 * want]).wrong("fp32") is not None
    assert distance([0 * want], [want]).wrong("int8") == "cosine 0.0000, below 0.9"


def test_the_worst_of_outputs_and_samples_counts():
    good, bad = Distance(0.0, 1.0, None), Distance(0.5, 0.3, 6.0)
    assert worse(good, bad) == worse(bad, good) == bad
    assert worse(bad, Distance(None, None, None)) == Distance(None, None, None)
    want = np.ones((1, 3), np.float32)
    assert distance([want, 2 * want], [want, want]).relative == 1


def test_comparing_with_exact_outputs_ends_in_time(tmp_path, monkeypatch):
    samples, fp32, exact = (tmp_path / name for name in ("x.npz", "fp32.npz", "exact.npz"))
    np.savez(samples, x=np.arange(1, 13, dtype=np.float32).reshape(4, 1, 3))
    double = lambda row: [2 * row["x"]]  # noqa: E731
    save_outputs(fp32, double, rows(samples))
    save_outputs(exact, double, rows(samples)[:3])
    whole = compare_exact(double, samples, exact, fp32)
    assert (whole.samples, whole.top1, whole.difference, whole.quantization, whole.exact) == (
        3,
        3,
        0,
        0,
        True,
    )
    monkeypatch.setattr(correctness, "EXACT_S", -1.0)
    assert compare_exact(double, samples, exact, fp32).samples == 1
    assert len(outputs(save_outputs(exact, double, rows(samples), -1.0))) == 1
    other = compare_exact(lambda row: [-2 * row["x"]], samples, exact, fp32)
    assert (other.top1, other.exact) == (0, False)


@pytest.fixture
def model(tmp_path):
    """Two rows of a table, through a matrix, plus a bias."""
    weights = {"table": (1000, 8), "matrix": (8, 4), "bias": (4,)}
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"]),
            helper.make_node("MatMul", ["rows", "matrix"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["y"]),
        ],
        "graph",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, (1, 2))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2, 4))],
        [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


def test_bytes_are_weights_and_what_goes_in_and_out(model):
    around = 2 * 8 + 8 * 4  # two int64 in, eight floats out
    assert model_bytes(model, "fp32") == around + 4 * (2 * 8 + 8 * 4 + 4)
    assert model_bytes(model, "int8") == around + (2 * 8 + 8 * 4) + 4 * 4


def test_the_larger_limit_counts_and_caches_hold_what_fits(model):
    moved = model_bytes(model, "fp32")
    bound = roofline(model, 10**6, "fp32", peak_gops=100.0, bandwidth_gbs=10.0, cache_bytes=0)
    assert (bound.bound, bound.ns) == ("compute", 2 * 10**6 / 100)
    bound = roofline(model, 1, "fp32", peak_gops=100.0, bandwidth_gbs=10.0, cache_bytes=56)
    assert (bound.bound, bound.ns) == ("memory", (moved - 56) / 10)
    bound = roofline(model, 1, "fp32", peak_gops=100.0, bandwidth_gbs=10.0, cache_bytes=10**9)
    assert (bound.bound, bound.ns) == ("compute", 0.02)
