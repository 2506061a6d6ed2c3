"""``check --deep`` names everything that cannot be lowered before building; models that pass compile correctly."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.config.target import load_target
from edgepack.errors import InputError, UnsupportedError
from edgepack.export.reference import run_onnx
from edgepack.lower import compile_model
from edgepack.lower.deep import examine
from edgepack.lower.host import open_on_host
from edgepack.lower.onnx.frontend import prepare, to_relax
from edgepack.onnxfile import load_onnx

FLOAT = TensorProto.FLOAT


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs, outputs, name=outputs[0].upper(), **attributes)


def model(path, nodes, inputs, outputs, constants=(), *, opset=18, imports=()):
    """A model in a file; inputs by name and shape, outputs by name and element type."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(constants).items()],
    )
    for value, kind in zip(graph.output, outputs.values(), strict=True):
        value.type.tensor_type.elem_type = kind
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), *imports], ir_version=10)
    inferred = onnx.shape_inference.infer_shapes(made)
    for value in inferred.graph.output:
        value.type.tensor_type.shape.SetInParent()
    onnx.save(inferred, path)
    return path


def operators(examined):
    return [(problem.operator, problem.node) for problem in examined.model_problems]


@pytest.fixture
def hopeless(tmp_path):
    """A model with three nodes of two operators that cannot be lowered, among supported ones."""
    nodes = [
        node("Det", ["x"], ["d"]),
        node("Det", ["z"], ["e"]),
        node("Add", ["d", "e"], ["s"]),
        node("Cast", ["s"], ["i"], to=TensorProto.UINT64),
        node("TopK", ["i", "k"], ["t", "at"]),
        node("Cast", ["t"], ["y"], to=FLOAT),
    ]
    inputs = {"x": ["n", 5, 5], "z": ["n", 5, 5]}
    return model(tmp_path / "hopeless.onnx", nodes, inputs, {"y": FLOAT}, {"k": [1]})


def test_every_problem_is_named_at_once(hopeless):
    examined = examine(hopeless)
    assert operators(examined) == [("Det", "D"), ("Det", "E"), ("TopK", "T")]
    assert examined.operators == {"Det": 2, "Cast": 2, "Add": 1, "TopK": 1}
    assert examined.kernels == 0
    assert "sorts only" in examined.model_problems[2].why
    assert all(problem.next for problem in examined.model_problems)
    text = UnsupportedError("m.onnx", list(examined.model_problems)).render()
    assert "nodes D, E: operator Det cannot be compiled" in text
    assert text.endswith("error: m.onnx cannot be compiled: 3 problems")


def test_compiling_refuses_what_the_check_refuses(hopeless, tmp_path):
    with pytest.raises(UnsupportedError) as caught:
        compile_model(hopeless, load_target("x86-64-v3"), tmp_path / "m.so")
    assert tuple(caught.value.model_problems) == examine(hopeless).model_problems
    assert not (tmp_path / "m.so").exists()


@pytest.mark.parametrize(
    ("nodes", "constants", "outputs", "why"),
    [
        # TVM's converter of IsInf detects both signs and ignores the attribute.
        ([node("IsInf", ["x"], ["y"], detect_positive=0)], {}, {"y": TensorProto.BOOL}, "detect_positive"),
        # TVM resizes without the low-pass filter.
        (
            [node("Resize", ["x", "", "s"], ["y"], mode="linear", antialias=1)],
            {"s": np.array([1, 1, 0.5, 0.5], "float32")},
            {"y": FLOAT},
            "antialias",
        ),
        # TVM imports the mean as a scalar.
        (
            [node("LayerNormalization", ["x", "s"], ["y", "m", "v"], axis=-1)],
            {"s": np.ones(8, "float32")},
            {"y": FLOAT, "m": FLOAT},
            "instead of float32[1, 2, 8, 1]",
        ),
    ],
    ids=["attribute", "another attribute", "defined by simpler operators"],
)
def test_what_tvm_would_ignore_is_a_problem(tmp_path, nodes, constants, outputs, why):
    path = model(tmp_path / "m.onnx", nodes, {"x": [1, 2, 8, 8]}, outputs, constants)
    problems = []
    to_relax(prepare(load_onnx(path), str(path)), str(path), problems.append)
    assert [why in problem.why for problem in problems] == [True]
    assert examine(path).model_problems == ()  # because such forms are rewritten before


@pytest.mark.parametrize(("dtype", "count"), [(TensorProto.UINT64, 1), (TensorProto.INT16, 0)])
def test_types_that_the_runtime_cannot_sort_are_a_problem(tmp_path, dtype, count):
    nodes = [node("Cast", ["x"], ["c"], to=dtype), node("TopK", ["c", "k"], ["y", "at"])]
    outputs = {"y": dtype, "at": TensorProto.INT64}
    path = model(tmp_path / "m.onnx", nodes, {"x": [1, 6]}, outputs, {"k": [2]})
    assert [problem.operator for problem in examine(path).model_problems] == ["TopK"] * count


def run(path, *inputs):
    return open_on_host(path)(*inputs)


def test_an_operator_that_onnx_defines_by_others_is_compiled_as_these(tmp_path):
    nodes = [
        node("Celu", ["x"], ["c"], alpha=2.0),
        node("LayerNormalization", ["c", "s"], ["y", "mean"], axis=-1),
    ]
    constants = {"s": np.linspace(1, 2, 8).astype("float32")}
    path = model(tmp_path / "m.onnx", nodes, {"x": ["n", 8]}, {"y": FLOAT, "mean": FLOAT}, constants)
    assert examine(path).model_problems == ()
    compiled = compile_model(path, load_target("x86-64-v3"), tmp_path / "m.so")
    value = np.random.default_rng(0).normal(size=(1, 8)).astype("float32")
    expected = run_onnx(path, {"x": value})
    for got, want in zip(run(compiled.path, value), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_a_model_that_can_be_lowered_is_counted(network):
    examined = examine(network)
    assert examined.model_problems == ()
    assert examined.operators["Conv"] == 3
    assert examined.parameters == 16 * 27 + 16 * 9 + 24 * 16 + 24 * 10 + 16 + 16 + 24 + 10
    assert examined.kernels > 3


def test_every_input_of_open_shape_is_named(tmp_path):
    nodes = [node("Add", ["a", "b"], ["y"])]
    path = model(tmp_path / "m.onnx", nodes, {"a": [1, "h"], "b": ["n", 3, "w"]}, {"y": FLOAT})
    first, second = examine(path).model_problems
    assert "'a' has no fixed size along axis 1" in first.message
    assert "'b' has no fixed size along axis 2" in second.message
    assert "model.inputs: [{name: b" in second.next


def test_every_foreign_operator_is_named(tmp_path):
    nodes = [
        helper.make_node("Gelu", ["x"], ["g"], name="first", domain="acme"),
        helper.make_node("Gelu", ["g"], ["y"], domain="acme"),
    ]
    imports = [helper.make_opsetid("acme", 1)]
    path = model(tmp_path / "m.onnx", nodes, {"x": [1, "n"]}, {"y": FLOAT}, imports=imports)
    problems = examine(path).model_problems
    assert "'x' has no fixed size along axis 1" in problems[0].message
    assert operators(examine(path))[1:] == [("acme.Gelu", "first"), ("acme.Gelu", "that computes y")]
    assert all(problem.next for problem in problems)


def test_a_shape_that_depends_on_the_data_names_the_node(tmp_path):
    nodes = [node("NonZero", ["x"], ["n"]), node("Cast", ["n"], ["y"], to=FLOAT)]
    path = model(tmp_path / "m.onnx", nodes, {"x": [2, 3]}, {"y": FLOAT})
    (problem,) = examine(path).model_problems
    assert "only known at run time" in problem.message
    assert problem.node == "N"


def test_a_file_that_is_no_model_is_an_error_and_no_problem(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match="not an ONNX model"):
        examine(tmp_path / "m.onnx")


def test_a_definition_is_found_for_a_node_that_leaves_inputs_out(tmp_path):
    inputs = {name: [1, 2, 4, 8] for name in ("q", "k", "v", "past_k", "past_v")}
    nodes = [node("Attention", ["q", "k", "v", "", "past_k", "past_v"], ["y", "pk", "pv"], is_causal=1)]
    path = model(tmp_path / "m.onnx", nodes, inputs, {"y": FLOAT, "pk": FLOAT, "pv": FLOAT}, opset=23)
    assert examine(path).model_problems == ()


def branch(name, *nodes):
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info("o", FLOAT, None)])


def deformed(name, x="x"):
    return helper.make_node("DeformConv", [x, "w", "offsets"], ["h"], name=name)


LACKING = {
    "in the graph": [deformed("a")],
    "in both branches": [
        helper.make_node(
            "If",
            ["flag"],
            ["h"],
            then_branch=branch(
                "t",
                deformed("b"),
                helper.make_node("Squeeze", ["h"], ["h2"]),
                helper.make_node("Abs", ["h2"], ["o"]),
            ),
            else_branch=branch("e", deformed("c"), helper.make_node("Abs", ["h"], ["o"])),
        )
    ],
    "in one branch": [
        helper.make_node(
            "If",
            ["flag"],
            ["h"],
            then_branch=branch("t", deformed("d"), helper.make_node("Abs", ["h"], ["o"])),
            else_branch=branch("e", helper.make_node("Abs", ["x"], ["o"])),
        )
    ],
    "of a shape alone": [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Cast", ["s"], ["f"], to=FLOAT),
        helper.make_node("Reshape", ["f", "to"], ["g"]),
        deformed("e", "g"),
    ],
}
SAID = {"in the graph": ["a"], "in both branches": ["c", "b"], "in one branch": [], "of a shape alone": []}


@pytest.mark.parametrize("where", LACKING)
def test_what_no_choice_of_sizes_makes_possible_is_named_beside_the_open_axes(tmp_path, where):
    constants = {
        "w": np.zeros((1, 1, 2, 2), "float32"),
        "offsets": np.zeros((1, 8, 1, 1), "float32"),
        "to": np.array([1, 1, 2, 2]),
    }
    graph = helper.make_graph(
        [*LACKING[where], helper.make_node("Identity", ["h"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("x", FLOAT, ["n", 1, "h", 2]),
            helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10), path)
    found = operators(examine(path))
    assert found == [*(("DeformConv", name) for name in SAID[where]), ("", "")]
