"""Normalisations folded into the scales of integer weights, and weights of 4 bits."""

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.export import run_onnx
from edgepack.onnxfile import canonicalise
from edgepack.onnxfile.integer_weights import fold_model_norms, narrow_weights

RNG = np.random.default_rng(0)


def model(
    operator, weight, axis, *, bias=True, scales=None, opset=18, x=(1, 6, 5, 5), dtype="int8", **attributes
):
    """A layer with an integer weight, then a normalisation with factors of both signs and one of 0."""
    channels = weight.shape[axis]
    constants = {
        "w": weight.astype(dtype),
        "s": RNG.uniform(0.01, 0.02, channels if scales is None else scales).astype("float32"),
        "b": RNG.standard_normal(channels).astype("float32"),
        "gamma": RNG.standard_normal(channels).astype("float32"),
        "beta": RNG.standard_normal(channels).astype("float32"),
        "mean": RNG.standard_normal(channels).astype("float32"),
        "var": RNG.uniform(0.5, 2, channels).astype("float32"),
    }
    constants["gamma"][0] = 0
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["wf"], axis=axis),
        helper.make_node(operator, ["x", "wf", "b"][: 2 + bias], ["h"], **attributes),
        helper.make_node("BatchNormalization", ["h", "gamma", "beta", "mean", "var"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return canonicalise(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    )


def product(levels, shape, **options):
    """As :func:`model`, with ``Mul(Cast(levels), scale)`` in place of DequantizeLinear."""
    made = model("Conv", levels, 0, **options)
    (decode,) = [node for node in made.graph.node if node.op_type == "DequantizeLinear"]
    cast = helper.make_node("Cast", ["w"], ["wn"], to=TensorProto.FLOAT)
    decode.CopyFrom(helper.make_node("Mul", ["wn", "s"], ["wf"]))
    nodes = [cast, *made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    (scale,) = [tensor for tensor in made.graph.initializer if tensor.name == "s"]
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale).reshape(shape), "s"))
    return canonicalise(made)


def both(made, tmp_path):
    folded = canonicalise(fold_model_norms(made))
    x = RNG.standard_normal([dim.dim_value for dim in made.graph.input[0].type.tensor_type.shape.dim])
    results = []
    for name, each in (("before", made), ("after", folded)):
        onnx.save(each, tmp_path / f"{name}.onnx")
        results.append(run_onnx(tmp_path / f"{name}.onnx", {"x": x.astype("float32")})[0])
    return folded, results


def integers(*shape, low=-127):
    return RNG.integers(low, 128, shape)


@pytest.mark.parametrize(
    "made",
    [
        model("Conv", integers(8, 6, 3, 3), 0),
        model("Conv", integers(6, 1, 3, 3), 0, bias=False, group=6),
        model("Conv", integers(8, 6, 1, 1), 0, scales=()),
        model("ConvTranspose", integers(6, 8, 2, 2), 1),
        model("Gemm", integers(8, 6), 0, x=(3, 6), transB=1),
        model("Gemm", integers(6, 8), 1, x=(3, 6), bias=False),
        product(integers(8, 6, 3, 3), (8, 1, 1, 1)),
    ],
    ids=["conv", "depthwise", "one-scale", "transposed", "gemm-b", "gemm", "product"],
)
def test_a_normalisation_is_folded_into_scales_and_bias(made, tmp_path):
    folded, (before, after) = both(made, tmp_path)
    assert "BatchNormalization" not in {node.op_type for node in folded.graph.node}
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)
    scale = next(tensor for tensor in folded.graph.initializer if tensor.name == "s")
    if "DequantizeLinear" in {node.op_type for node in folded.graph.node}:
        assert (numpy_helper.to_array(scale) > 0).all()


@pytest.mark.parametrize(
    "made",
    [
        model("Conv", np.full((8, 6, 1, 1), -128), 0),  # has no negative in int8
        model("Conv", integers(6, 6, 3, 3), 1),  # one scale per input channel
        model("Conv", integers(8, 6, 1, 1, low=0), 0, dtype="uint8"),
    ],
    ids=["lowest", "along-inputs", "unsigned"],
)
def test_what_cannot_be_folded_exactly_is_left_alone(made, tmp_path):
    folded, (before, after) = both(made, tmp_path)
    assert "BatchNormalization" in {node.op_type for node in folded.graph.node}
    np.testing.assert_array_equal(after, before)


def test_a_layer_that_is_read_twice_is_left_alone(tmp_path):
    made = model("Conv", integers(8, 6, 3, 3), 0)
    made.graph.output.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, None))
    folded, _ = both(canonicalise(made), tmp_path)
    assert "BatchNormalization" in {node.op_type for node in folded.graph.node}


@pytest.mark.parametrize(("low", "opset", "kind"), [(-8, 21, "INT4"), (-9, 21, "INT8"), (-8, 18, "INT8")])
def test_small_integers_are_stored_in_four_bits(low, opset, kind, tmp_path):
    weight = np.linspace(low, 7, 48).round().reshape(8, 6, 1, 1)
    made = model("Conv", weight, 0, opset=opset)
    graph = onnx_ir.from_proto(made)
    narrow_weights(graph)
    narrowed = canonicalise(onnx_ir.to_proto(graph))
    (tensor,) = [each for each in narrowed.graph.initializer if each.name == "w"]
    assert TensorProto.DataType.Name(tensor.data_type) == kind
    x = RNG.standard_normal((1, 6, 5, 5)).astype("float32")
    results = []
    for name, each in (("before", made), ("after", narrowed)):
        onnx.save(each, tmp_path / f"{name}.onnx")
        results.append(run_onnx(tmp_path / f"{name}.onnx", {"x": x})[0])
    np.testing.assert_array_equal(*results)
