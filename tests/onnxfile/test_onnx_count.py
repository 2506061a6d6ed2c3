"""Counts compared with manual calculation and with torch."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.onnxfile import canonicalise, save_onnx
from edgepack.onnxfile.counting import count


def tensor(name, *shape, dtype="float32"):
    return numpy_helper.from_array(np.ones(shape, dtype), name)


def counted(tmp_path, nodes, x, initializers):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initializers,
    )
    path = tmp_path / "m.onnx"
    save_onnx(
        canonicalise(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)),
        path,
    )
    counts = count(path)
    return counts.parameters, counts.macs


@pytest.mark.parametrize(
    ("node", "x", "weights", "expected"),
    [
        (
            helper.make_node("Conv", ["x", "w", "b"], ["y"]),
            [1, 3, 8, 8],
            [(5, 3, 3, 3), (5,)],
            (140, 5 * 36 * 27),
        ),
        (
            helper.make_node("Conv", ["x", "w"], ["y"], group=4),
            [2, 4, 8, 8],
            [(8, 1, 3, 3)],
            (72, 2 * 8 * 36 * 9),
        ),
        (
            helper.make_node("ConvTranspose", ["x", "w"], ["y"]),
            [1, 3, 8, 8],
            [(3, 5, 2, 2)],
            (60, 3 * 64 * 20),
        ),
        (helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1), [2, 6], [(4, 6), (4,)], (28, 2 * 4 * 6)),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transA=1), [6, 2], [(6, 4)], (24, 2 * 4 * 6)),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), [3, 2, 6], [(6, 4)], (24, 3 * 2 * 4 * 6)),
        # 5 tokens of 6 numbers, 4 hidden: weights [directions, gates * 4, 6] and [directions, gates * 4, 4].
        (
            helper.make_node("LSTM", ["x", "w", "b"], ["y"], hidden_size=4),
            [5, 1, 6],
            [(1, 16, 6), (1, 16, 4)],
            (160, 5 * 160),
        ),
        (
            helper.make_node("GRU", ["x", "w", "b"], ["y"], hidden_size=4, direction="bidirectional"),
            [5, 1, 6],
            [(2, 12, 6), (2, 12, 4)],
            (240, 5 * 240),
        ),
    ],
    ids=["conv", "depthwise", "transposed", "gemm", "gemm transA", "matmul", "lstm", "gru"],
)
def test_operators(tmp_path, node, x, weights, expected):
    initializers = [tensor(name, *shape) for name, shape in zip("wb", weights, strict=False)]
    assert counted(tmp_path, [node], x, initializers) == expected


def test_settings_are_no_parameters(tmp_path):
    nodes = [
        helper.make_node("Clip", ["x", "low", "high"], ["a"]),
        helper.make_node("Reshape", ["a", "shape"], ["b"]),
        helper.make_node("Add", ["b", "w"], ["y"]),
    ]
    settings = [tensor("low"), tensor("high"), numpy_helper.from_array(np.array([6]), "shape")]
    assert counted(tmp_path, nodes, [2, 3], [*settings, tensor("w", 6)]) == (6, 0)


def test_quantized_weights_count_and_their_scales_do_not(tmp_path):
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["f"], axis=0),
        helper.make_node("Conv", ["x", "f"], ["y"]),
    ]
    weights = [tensor("w", 5, 3, 3, 3, dtype="int8"), tensor("s", 5), tensor("z", 5, dtype="int8")]
    assert counted(tmp_path, nodes, [1, 3, 8, 8], weights) == (135, 5 * 36 * 27)


def test_weights_are_counted_by_encoding_with_what_decodes_them(tmp_path):
    def decoded(name):
        return helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s", f"{name}_z"], [name], axis=0)

    sizes = {"w_q": 5 * 3 * 9, "w_s": 5 * 4, "w_z": 5, "b_q": 5 * 4, "b_s": 5 * 4, "b_z": 5 * 4, "a": 4}
    constants = [
        tensor("w_q", 5, 3, 3, 3, dtype="int8"), tensor("w_s", 5), tensor("w_z", 5, dtype="int8"),
        tensor("b_q", 5, dtype="int32"), tensor("b_s", 5), tensor("b_z", 5, dtype="int32"),
        tensor("a", 1),
    ]  # fmt: skip
    nodes = [
        decoded("w"),
        decoded("b"),
        helper.make_node("Conv", ["x", "w", "b"], ["c"]),
        helper.make_node("Mul", ["c", "a"], ["y"]),
    ]
    counted(tmp_path, nodes, [1, 3, 8, 8], constants)
    found = count(tmp_path / "m.onnx").encodings
    assert found == {
        "int8": sizes["w_q"] + sizes["w_s"] + sizes["w_z"],
        "int32": sizes["b_q"] + sizes["b_s"] + sizes["b_z"],
        "dense": sizes["a"],
    }
