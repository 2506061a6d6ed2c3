"""Operators that TVM compiles incorrectly or not at all give correct results."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgepack.config.target import load_target
from edgepack.export.reference import run_onnx
from edgepack.lower import compile_model
from edgepack.lower.deep import examine
from edgepack.lower.host import open_on_host
from edgepack.lower.onnx.support import LIMITS

MASKED = np.array([[-np.inf, -np.inf, -np.inf], [1, -np.inf, 3]], "float32")
STEPS = np.concatenate([-np.geomspace(10, 1e-6, 20), [0], np.geomspace(1e-6, 10, 20)]).astype("float32")


def one(path, operator, value, constants, **attributes):
    """A model of one node on the input x."""
    node = helper.make_node(operator, ["x", *constants], ["y"], name="the_node", **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.asarray(each), name) for name, each in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    for output, known in zip(model.graph.output, _outputs(model), strict=True):
        output.CopyFrom(known)
    onnx.save(model, path)
    return path


def _outputs(model):
    """Return the outputs with their inferred types."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.output[:]
    found = {value.name: value for value in onnx.shape_inference.infer_shapes(bare).graph.value_info}
    return [found[output.name] for output in model.graph.output]


def compiled(path, folder, value):

    library = compile_model(path, load_target("x86-64-v3"), folder / "m.so").path
    machine = open_on_host(library)
    return machine(value)[0]


@pytest.mark.parametrize(
    ("operator", "value", "constants", "attributes"),
    [
        ("Sinh", STEPS, {}, {}),
        ("Cosh", STEPS, {}, {}),
        ("ReduceMax", MASKED, {"axes": [1]}, {"keepdims": 0}),
        ("ReduceMax", MASKED, {"axes": [0]}, {"keepdims": 1}),
        ("ReduceMin", -MASKED, {}, {}),
        ("CumSum", MASKED[1:, 2:] + STEPS[:, None], {"axis": 0}, {}),
        (
            "ScatterElements",
            STEPS[None],
            {"at": [[3, 1]], "with": np.array([[7, 8]], "float32")},
            {"axis": 1},
        ),
    ],
)
def test_values_are_those_of_onnxruntime(tmp_path, operator, value, constants, attributes):
    value = np.ascontiguousarray(value, "float32")
    path = one(tmp_path / "m.onnx", operator, value, constants, **attributes)
    assert examine(path).model_problems == ()
    (expected,) = run_onnx(path, {"x": value})
    np.testing.assert_allclose(compiled(path, tmp_path, value), expected, rtol=1e-5, atol=1e-12)


IMAGE = np.ones((1, 1, 4, 4), "float32")


@pytest.mark.parametrize(
    ("operator", "value", "constants", "attributes", "refused"),
    [
        (
            "Resize",
            IMAGE,
            {"roi": np.empty(0, "float32"), "s": np.array([1, 1, 0.6, 1.5], "float32")},
            {},
            False,
        ),
        (
            "RoiAlign",
            IMAGE,
            {"rois": np.array([[0, 0, 2, 2]], "float32"), "batch": [0]},
            {"mode": "max", "output_height": 2, "output_width": 2},
            True,
        ),
        ("Pow", np.arange(4), {"two": np.array([2])}, {}, False),
        ("Pow", np.arange(4, dtype="float32"), {"two": np.array([2], "float32")}, {}, False),
    ],
)
def test_forms_beyond_a_limit_are_refused_and_others_are_not(
    tmp_path, *, operator, value, constants, attributes, refused
):
    path = one(tmp_path / "m.onnx", operator, value, constants, **attributes)
    problems = examine(path).model_problems
    if not refused:
        assert problems == ()
    else:
        (problem,) = problems
        assert (problem.operator, problem.node) == (operator, "the_node")
        assert (problem.why, problem.next) in {(limit.why, limit.next) for limit in LIMITS}
