"""Small ONNX models for the tests."""

import numpy as np
import pytest


def _network(quantized):
    """A network with convolution, depthwise convolution, residual, pooling and linear layer; optionally in Q/DQ form."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    nodes, constants = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def qdq(name, scale=0.05, zero=128):
        if not quantized:
            return name
        s, z = constant(f"{name}_s", np.float32(scale)), constant(f"{name}_z", np.uint8(zero))
        nodes.append(helper.make_node("QuantizeLinear", [name, s, z], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", s, z], [f"{name}_dq"]))
        return f"{name}_dq"

    def weight(name, shape):
        value = random.normal(0, 0.4, shape).astype("float32")
        if not quantized:
            return constant(name, value)
        scale = np.abs(value).reshape(shape[0], -1).max(1) / 127
        data = np.rint(value / scale.reshape(-1, *[1] * (len(shape) - 1))).astype("int8")
        names = [
            constant(f"{name}_i8", data),
            constant(f"{name}_s", scale),
            constant(f"{name}_z", np.zeros(shape[0], "int8")),
        ]
        nodes.append(helper.make_node("DequantizeLinear", names, [name], axis=0))
        return name

    def conv(x, name, shape, **attributes):
        bias = constant(f"{name}_b", random.normal(0, 0.1, shape[0]).astype("float32"))
        inputs = [x, weight(f"{name}_w", shape), bias]
        nodes.append(helper.make_node("Conv", inputs, [f"{name}_c"], name=name, **attributes))
        nodes.append(helper.make_node("Relu", [f"{name}_c"], [name]))
        return qdq(name, zero=0)

    first = conv(qdq("x"), "first", (16, 3, 3, 3), pads=[1] * 4, strides=[2, 2])
    depthwise = conv(first, "depthwise", (16, 1, 3, 3), pads=[1] * 4, group=16)
    nodes.append(helper.make_node("Add", [first, depthwise], ["sum"]))
    second = conv(qdq("sum", zero=0), "second", (24, 16, 1, 1))
    nodes.append(helper.make_node("GlobalAveragePool", [second], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    constant("bias", np.arange(10, dtype="float32"))
    inputs = [qdq("flat", zero=0), weight("linear_w", (10, 24)), "bias"]
    nodes.append(helper.make_node("Gemm", inputs, ["y"], transB=1))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 15, 15])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """An fp32 network with an open batch axis."""
    import onnx

    path = tmp_path_factory.mktemp("onnx") / "network.onnx"
    onnx.save(_network(quantized=False), path)
    return path


@pytest.fixture(scope="session")
def quantized_network(tmp_path_factory):
    """The same network in Q/DQ form: per-tensor activations, per-channel weights."""
    import onnx

    path = tmp_path_factory.mktemp("onnx") / "quantized.onnx"
    onnx.save(_network(quantized=True), path)
    return path


@pytest.fixture(scope="session")
def one_node(tmp_path_factory):
    """A function that builds models with one node: ``one_node("Conv", [inputs], constants={…}, **attributes)``."""
    from onnx import TensorProto, helper, numpy_helper, save

    def make(operator, shapes, constants, outputs=("y",), out_shape=None, *, opset=17, **attributes):
        inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
        node = helper.make_node(operator, [*shapes, *constants], list(outputs), name="the_node", **attributes)
        graph = helper.make_graph(
            [node],
            "one",
            inputs,
            [helper.make_tensor_value_info(outputs[0], TensorProto.FLOAT, out_shape)],
            [numpy_helper.from_array(v, n) for n, v in constants.items()],
        )
        path = tmp_path_factory.mktemp("onnx") / f"{operator}.onnx"
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), path)
        return path

    return make
