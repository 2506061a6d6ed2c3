"""A command line with directories of its own, a board to deploy to, and a network to deploy."""

import os

import pytest
from command_line import lacking, make_cli

from edgepack.remote import virtual


@pytest.fixture
def cli(tmp_path):
    return make_cli(tmp_path)


@pytest.fixture(scope="module")
def module_cli(tmp_path_factory):
    return make_cli(tmp_path_factory.mktemp("cli"))


@pytest.fixture(scope="session")
def host_board(tmp_path_factory):
    """This machine behind a real sshd, for as long as the tests run."""
    lacking("sshd")
    with virtual.up("host", f"cli-tests-{os.getpid()}", owned=True) as board:
        yield board


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory):
    """A network of one convolution and one dense layer, exported elsewhere: made with onnx alone."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {
        "conv.weight": rng.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "dense.weight": rng.standard_normal((8 * 36, 10)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "conv.weight"], ["c"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("MatMul", ["f", "dense.weight"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path
