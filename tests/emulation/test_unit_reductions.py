"""Sums of one element, with a bias, on the emulated GPU."""

import numpy as np
import pytest
from gpu_models import built_for_gpu
from onnx import TensorProto, helper, numpy_helper

RANDOM = np.random.default_rng(0)
BIAS = RANDOM.standard_normal(8).astype("float32")


def product(x):
    weight = RANDOM.standard_normal((1, 8)).astype("float32")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])]
    return nodes, weight, x @ weight + BIAS


def convolution(x):
    weight = RANDOM.standard_normal((8, 1, 1, 1)).astype("float32")
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"])
    return [node], weight, x * weight.reshape(1, 8, 1, 1) + BIAS.reshape(1, 8, 1, 1)


@pytest.mark.parametrize(("case", "shape"), [(product, (5, 1)), (convolution, (1, 1, 6, 7))])
def test_a_bias_is_added_once(case, shape, tmp_path):
    x = RANDOM.standard_normal(shape).astype("float32")
    nodes, weight, wanted = case(x)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, wanted.shape)],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(BIAS, "b")],
    )
    np.testing.assert_allclose(built_for_gpu(graph, tmp_path).run(x=x), wanted, rtol=1e-6, atol=1e-6)
