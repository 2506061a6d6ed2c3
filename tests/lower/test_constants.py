"""Encoded constants are passed to kernels that can decode them, with the same results."""

import numpy as np
import pytest

from edgepack.config.target import load_target
from edgepack.export.reference import run_onnx
from edgepack.lower import compile_model
from edgepack.lower.graph import gains
from edgepack.lower.graph.gains import Gain
from edgepack.lower.host import open_on_host
from edgepack.onnxfile import canonicalise
from edgepack.onnxfile.encodings import encoded_constants

X86 = load_target("x86-64-v3")


def model(*, weight, operator, x, scale=None, zero=None, axis=0, to=None, **attributes):
    """One operator that reads a dequantized weight; returns the checked model."""
    from onnx import TensorProto, checker, helper, numpy_helper, shape_inference

    channels = weight.shape[axis]
    scale = np.linspace(0.01, 0.03, channels, dtype="float32") if scale is None else scale
    constants = {
        "w_q": weight,
        "w_s": scale,
        "w_z": np.zeros(scale.shape, weight.dtype) if zero is None else zero,
    }
    nodes = [helper.make_node("DequantizeLinear", list(constants), ["w"], axis=axis, name="decode")]
    if to is not None:
        nodes.append(helper.make_node("Transpose", ["w"], ["wt"], perm=to))
    nodes.append(helper.make_node(operator, ["x", "w" if to is None else "wt"], ["y"], **attributes))
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    inferred = shape_inference.infer_shapes(made, strict_mode=True, data_prop=True)
    checker.check_model(inferred, full_check=True)
    return canonicalise(inferred)


def integers(*shape, dtype="int8"):
    info = np.iinfo(dtype)
    return np.random.default_rng(3).integers(info.min, info.max + 1, shape).astype(dtype)


def compiled(made, tmp_path, target=X86):
    import onnx

    path = tmp_path / "m.onnx"
    onnx.save(made, path)
    return path, compile_model(path, target, tmp_path / "m.so")


def error(path, result, shape):
    """The largest difference from the reference, relative to its largest value."""

    value = np.random.default_rng(4).standard_normal(shape).astype("float32")
    (want,) = run_onnx(path, {"x": value})
    machine = open_on_host(result.path)
    got = machine(value)[0]
    return np.abs(got - want).max() / np.abs(want).max()


def by_form(result):
    return {(s.encoding, s.decoded): s for s in result.constants}


@pytest.fixture
def taken_everywhere(monkeypatch):
    """Kernels decode whatever they can, even if slower."""
    monkeypatch.setattr(gains, "GAINS", [Gain("any", kernel) for kernel in ("convolution", "product")])


CASES = {
    "conv 3x3": {"weight": integers(16, 8, 3, 3), "operator": "Conv", "x": [1, 8, 16, 16], "pads": [1] * 4},
    "conv 1x1 strided": {"weight": integers(24, 16, 1, 1), "operator": "Conv", "x": [1, 16, 28, 28], "strides": [2, 2]},
    "conv dilated": {"weight": integers(8, 4, 3, 3), "operator": "Conv", "x": [1, 4, 18, 18], "dilations": [2, 2]},
    "conv 1d": {"weight": integers(8, 4, 3), "operator": "Conv", "x": [1, 4, 34]},
    "conv, one scale": {
        "weight": integers(16, 8, 3, 3), "operator": "Conv", "x": [1, 8, 16, 16], "pads": [1] * 4,
        "scale": np.float32(0.02), "zero": np.int8(0),
    },
    "matmul": {"weight": integers(64, 32), "operator": "MatMul", "x": [1, 64], "axis": 1},
    "matmul of many rows": {"weight": integers(64, 32), "operator": "MatMul", "x": [2, 16, 64], "axis": 1},
    "matmul, transposed": {"weight": integers(32, 64), "operator": "MatMul", "x": [1, 64], "axis": 0, "to": [1, 0]},
}  # fmt: skip


@pytest.mark.usefixtures("taken_everywhere")
@pytest.mark.parametrize("case", CASES)
def test_a_weight_stays_int8_and_the_outputs_are_onnxruntimes(case, tmp_path):
    given = CASES[case]
    path, result = compiled(model(**given), tmp_path)
    weight = given["weight"]
    summary = by_form(result)["int8", "kernel"]
    assert (summary.count, summary.raw_bytes, summary.resident_bytes) == (1, weight.size, weight.size)
    assert summary.stored_bytes <= weight.size
    assert error(path, result, given["x"]) <= 1e-5


TABLES = {
    "one scale, asymmetric": ((40, 6), "uint8", 0, (), [3, 5]),
    "one scale, symmetric": ((40, 6), "int8", 0, (), [4]),
    "a scale a row": ((40, 6), "int8", 0, 0, [2, 3]),
    "a scale and a zero a row": ((40, 6, 2), "uint8", 0, 0, [3]),
    "a scale a column": ((40, 6), "uint8", 0, 1, [3, 5]),
    "columns are taken": ((6, 40), "uint8", 1, 0, [2, 2]),
    "columns are taken, a scale each": ((6, 40, 3), "uint8", 1, 1, [2, 2]),
    "one row": ((40, 6), "uint8", 0, 0, []),
}


@pytest.mark.parametrize("target", ["x86-64-v3", "rpi4"])
@pytest.mark.parametrize("case", TABLES)
def test_an_embedding_stays_8_bit_and_means_the_same(case, target, tmp_path):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    shape, dtype, axis, along, taken = TABLES[case]
    random = np.random.default_rng(5)
    table, settings = integers(*shape, dtype=dtype), () if along == () else (shape[along],)
    scale = random.uniform(0.01, 0.03, settings).astype("float32")
    zero = (integers(*settings, dtype=dtype) if dtype == "uint8" else np.zeros(settings, dtype)).astype(dtype)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=0 if along == () else along),
        helper.make_node("Gather", ["w", "at"], ["y"], axis=axis),
    ]
    constants = [
        numpy_helper.from_array(np.asarray(v), n) for n, v in {"q": table, "s": scale, "z": zero}.items()
    ]
    signature = [
        [helper.make_tensor_value_info("at", TensorProto.INT64, taken)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    ]
    graph = helper.make_graph(nodes, "embedding", *signature, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(canonicalise(onnx.shape_inference.infer_shapes(made, strict_mode=True)), tmp_path / "m.onnx")
    result = compile_model(tmp_path / "m.onnx", load_target(target), tmp_path / "m.so")
    assert by_form(result)[dtype, "kernel"].raw_bytes == table.size
    if target != "rpi4":
        at = random.integers(-shape[axis], shape[axis], taken)  # from the end, too
        (want,) = run_onnx(tmp_path / "m.onnx", {"at": at})
        machine = open_on_host(result.path)
        np.testing.assert_allclose(machine(at)[0], want, rtol=1e-6)


FOLDED = {
    "depthwise": {"weight": integers(8, 1, 3, 3), "operator": "Conv", "x": [1, 8, 16, 16], "group": 8},
    "uint8": {"weight": integers(64, 32, dtype="uint8"), "operator": "MatMul", "x": [1, 64], "axis": 1},
    "a zero point": {
        "weight": integers(64, 32), "operator": "MatMul", "x": [1, 64], "axis": 1, "zero": np.full(32, 3, "int8"),
    },
    "scales along the sum": {"weight": integers(64, 32), "operator": "MatMul", "x": [1, 64], "axis": 0},
    "another operator": {"weight": integers(1, 8, 16, 16), "operator": "Add", "x": [1, 8, 16, 16], "axis": 1},
}  # fmt: skip


@pytest.mark.usefixtures("taken_everywhere")
@pytest.mark.parametrize("case", FOLDED)
def test_what_no_kernel_can_take_is_decoded_at_load_and_means_the_same(case, tmp_path):
    given = FOLDED[case]
    path, result = compiled(model(**given), tmp_path)
    small = given["weight"].nbytes < 100  # decoding it takes more code than is saved
    assert {s.decoded for s in result.constants if s.encoding != "dense"} == {"build" if small else "load"}
    assert error(path, result, given["x"]) <= 1e-5


def test_where_widening_shows_only_weights_beyond_the_caches_stay_int8(tmp_path):
    rpi4 = load_target("rpi4")
    _, small = compiled(model(**CASES["conv 3x3"]), tmp_path, rpi4)
    assert set(by_form(small)) == {("int8", "load")}
    assert by_form(small)["int8", "load"].resident_bytes == 4 * CASES["conv 3x3"]["weight"].size
    kib = rpi4.cpu.l2_kib
    large = {"weight": integers(256, kib + 64), "operator": "MatMul", "x": [1, 256], "axis": 1}
    _, result = compiled(model(**large), tmp_path, rpi4)
    assert by_form(result)["int8", "kernel"].raw_bytes == 256 * (kib + 64)


def test_an_int8_model_is_a_quarter_of_its_size_on_the_board(tmp_path):
    """512 kB of int8 weights, 2 MB as floats; random ones cannot be coded in fewer bits."""
    layer = {"weight": integers(512, 1024), "operator": "MatMul", "x": [1, 512], "axis": 1}
    _, result = compiled(model(**layer), tmp_path)
    assert 512 * 1024 < result.weights.stat().st_size < 512 * 1024 + 8_000
    assert result.path.stat().st_size < 64_000


def test_constants_of_a_file_are_found_with_their_encoding():
    made = model(**CASES["conv 3x3"])
    (weight,) = encoded_constants(made)
    assert (weight.name, weight.encoding, weight.dtype, weight.shape) == (
        "w_q",
        "int8",
        "float32",
        (16, 8, 3, 3),
    )
    assert weight.stored_bytes == 16 * 8 * 9 + 16 * 4 + 16
    assert weight.dense_bytes == 16 * 8 * 9 * 4
    plain = model(**{**FOLDED["another operator"], "operator": "Add"})
    tensor = plain.graph.initializer.add()
    tensor.CopyFrom(plain.graph.initializer[1])
    tensor.name = "spare"
    found = {constant.name: constant for constant in encoded_constants(plain)}
    assert found["spare"].encoding == "dense"
    assert found["spare"].stored_bytes == found["spare"].dense_bytes == 4 * 8
