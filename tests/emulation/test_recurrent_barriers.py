"""The kernel of a recurrent layer on the emulated GPU: right in every order of threads, and no barrier is superfluous."""

import numpy as np
import onnx
import pytest
from gpu_models import BARRIER, Model, RunError, X, race
from onnx import TensorProto, helper, numpy_helper

from edgepack.config.target import load_target
from edgepack.export.reference import run_onnx
from edgepack.lower import compile_model

STEPS, BATCH, WIDTH, HIDDEN = 4, 3, X.shape[1], 300  # more elements of the state than threads in a block


@pytest.fixture(scope="module")
def layer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gru")
    random = np.random.default_rng(0)
    constants = {
        "first": np.array([0]),
        "last": np.array([STEPS * BATCH]),
        "shape": np.array([STEPS, BATCH, WIDTH]),
        "w": random.normal(0, 0.02, (2, 3 * HIDDEN, WIDTH)).astype("float32"),
        "r": random.normal(0, 0.1, (2, 3 * HIDDEN, HIDDEN)).astype("float32"),
        "lengths": np.array([4, 2, 3], "int32"),
    }
    nodes = [
        helper.make_node("Slice", ["x", "first", "last"], ["rows"]),
        helper.make_node("Reshape", ["rows", "shape"], ["sequence"]),
        helper.make_node(
            "GRU",
            ["sequence", "w", "r", "", "lengths"],
            ["y"],
            hidden_size=HIDDEN,
            direction="bidirectional",
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [STEPS, 2, BATCH, HIDDEN])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path = folder / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    built = compile_model(path, load_target("host-gpu"), folder / "m.so")
    (module,) = built.sources
    return Model(built.path, module.source, module.cubin, folder), run_onnx(path, {"x": X})[0]


@pytest.mark.parametrize("order", ["reverse", pytest.param("forward", marks=pytest.mark.slow)])
def test_a_state_of_more_elements_than_threads(layer, order):
    model, want = layer
    np.testing.assert_allclose(model.run(model.source, order), want, atol=1e-5)


def test_without_a_barrier_there_is_a_race(layer):
    model, _ = layer
    kernel = model.source.index("gru")
    number = model.source[:kernel].count(BARRIER) + 1  # the one between a step's gates and its state
    with pytest.raises(RunError, match=race("gru")):
        model.run(model.without_barrier(number), "reverse")
