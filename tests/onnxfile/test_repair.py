"""Files that onnxruntime runs are imported, whatever ONNX's checker says; others are refused with a next step.

Each case changes one thing in a small valid file. onnxruntime decides what is expected: if it runs the file, the
imported one must give the same outputs; if not, the refusal must say what to do.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import AttributeProto, ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnx.helper import make_node as node

from edgepack.errors import ImportDiffersError, InputError
from edgepack.export import import_checked, run_onnx
from edgepack.onnxfile import load_onnx
from edgepack.spec import Input

FLOAT = TensorProto.FLOAT
X = np.arange(-3, 3, dtype="float32").reshape(2, 3)
Build = Callable[[], ModelProto]
CASES: dict[str, Build] = {}


def value(name, shape=(2, 3), kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes=None, *, inputs=None, outputs=None, weights=None, opset=17, ir_version=8, value_info=(), imports=()
) -> ModelProto:
    """y = Relu(x + w), unless something else is given."""
    weights = {"w": np.ones((2, 3), "float32")} if weights is None else weights
    graph = helper.make_graph(
        [node("Add", ["x", "w"], ["t"]), node("Relu", ["t"], ["y"])] if nodes is None else nodes,
        "g",
        inputs or [value("x")],
        outputs or [value("y")],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
        value_info=value_info,
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(*each) for each in imports)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


def case(name: str) -> Callable[[Build], Build]:
    def add(build: Build) -> Build:
        CASES[name] = build
        return build

    return add


def changed(name: str) -> Callable[[Callable[[ModelProto], None]], None]:
    """A case that changes the standard model in place."""

    def add(change: Callable[[ModelProto], None]) -> None:
        def build() -> ModelProto:
            made = model()
            change(made)
            return made

        CASES[name] = build

    return add


def calls(body, *, inputs=("a",), opset=17, name="F", domain="acme", call=None, attributes=()) -> ModelProto:
    """y = F(x), where F is a local function."""
    call = call or node(name, ["x"], ["y"], domain=domain)
    made = model([call], imports=[(domain, 1)] if domain else [], ir_version=10)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("acme", 1)]
    made.functions.append(
        helper.make_function(domain, name, list(inputs), ["b"], body, opsets, list(attributes))
    )
    return made


def branches(then_nodes, else_nodes, outputs=None) -> ModelProto:
    graphs = [
        helper.make_graph(nodes, name, [], [outputs or value(name)])
        for nodes, name in ((then_nodes, "p"), (else_nodes, "q"))
    ]
    chosen = node("If", ["c"], ["y"], then_branch=graphs[0], else_branch=graphs[1])
    return model([chosen], weights={"c": np.array(True)})


def referring(operator, name, attribute):
    """A node in a function whose attribute is the function's."""
    made = node(operator, ["a"], ["b"])
    made.attribute.add(name=name, ref_attr_name=attribute, type=AttributeProto.INT)
    return made


WIDE = np.ones((2, 3), "float32")
SPARSE = (numpy_helper.from_array(np.array([5, 6], "float32"), "w"), np.array([1, 4]))
CASES |= {
    "as it should be": model,
    "an output without a shape": lambda: model(outputs=[value("y", None)]),
    "an output without a type": lambda: model(outputs=[ValueInfoProto(name="y")]),
    "an output of another shape": lambda: model(outputs=[value("y", (9, 9))]),
    "an output of another rank": lambda: model(outputs=[value("y", (9,))]),
    "an output of another type": lambda: model(outputs=[value("y", (2, 3), TensorProto.INT64)]),
    "an output with negative axes": lambda: model(outputs=[value("y", (-1, -1))]),
    "an output of size 0": lambda: model(outputs=[value("y", (0, 3))]),
    "an output that does not exist": lambda: model(outputs=[value("nowhere")]),
    "an output that is an input": lambda: model(outputs=[value("y"), value("x")]),
    "only an output that is an input": lambda: model(outputs=[value("x")]),
    "no nodes at all": lambda: model([], outputs=[value("x")]),
    "an output that is a weight": lambda: model(outputs=[value("y"), value("w")]),
    "an output twice": lambda: model(outputs=[value("y"), value("y")]),
    "a constant output": lambda: model(
        [node("Relu", ["x"], ["y"]), node("Constant", [], ["c"], value_float=1.0)],
        outputs=[value("y"), value("c", ())],
    ),
    "an input without a shape": lambda: model(inputs=[value("x", None)]),
    "an input without a type": lambda: model(inputs=[ValueInfoProto(name="x")]),
    "an input with a negative axis": lambda: model(inputs=[value("x", (-1, 3))]),
    "an input without axes": lambda: model(inputs=[value("x", ())]),
    "an input twice": lambda: model(inputs=[value("x"), value("x")]),
    "an input that nothing reads": lambda: model(inputs=[value("x"), value("u", (1,))]),
    "weights that are no inputs in IR 3": lambda: model(ir_version=3),
    "weights that are inputs": lambda: model(inputs=[value("x"), value("w")]),
    "weights that are inputs in IR 3": lambda: model(inputs=[value("x"), value("w")], ir_version=3),
    "a weight whose input has another type": lambda: model(
        inputs=[value("x"), value("w", (2, 3), TensorProto.INT64)]
    ),
    "value_info of another shape": lambda: model(value_info=[value("t", (9, 9))]),
    "value_info of another rank": lambda: model(value_info=[value("t", (9,))]),
    "value_info of another type": lambda: model(value_info=[value("t", (2, 3), TensorProto.INT64)]),
    "value_info twice": lambda: model(value_info=[value("t", (9, 9)), value("t")]),
    "value_info of nothing": lambda: model(value_info=[value("no", (9,)), ValueInfoProto(name="t")]),
    "nodes out of order": lambda: model([node("Relu", ["t"], ["y"]), node("Add", ["x", "w"], ["t"])]),
    "a cycle": lambda: model([node("Add", ["x", "u"], ["t"]), node("Relu", ["t"], ["u"])]),
    "a value made twice": lambda: model([node("Add", ["x", "w"], ["y"]), node("Relu", ["x"], ["y"])]),
    "an omitted output": lambda: model([node("Dropout", ["x"], ["y", ""])]),
    "omitted inputs": lambda: model([node("Clip", ["x", "", ""], ["y"])]),
    "a missing input": lambda: model([node("Add", ["x"], ["y"])]),
    "an unknown attribute": lambda: model([node("Relu", ["x"], ["y"], colour=1)]),
    "an unknown operator": lambda: model([node("Nothing", ["x"], ["y"])]),
    "operands of different types": lambda: model(weights={"w": np.ones((2, 3))}),
    "constants in every form": lambda: model(
        [
            node("Constant", [], ["a"], value_float=1.5),
            node("Constant", [], ["b"], value_floats=[1.0, 2, 3]),
            node("Constant", [], ["i"], value_int=-1),
            node("Constant", [], ["axes"], value_ints=[1]),
            node("Constant", [], ["s"], sparse_value=helper.make_sparse_tensor(SPARSE[0], numpy_helper.from_array(SPARSE[1], "i"), [2, 3])),
            node("Constant", [], ["text"], value_string="unused"),
            node("Cast", ["i"], ["f"], to=FLOAT),
            node("Sum", ["x", "a", "b", "f", "s"], ["t"]),
            node("ReduceSum", ["t", "axes"], ["y"]),
        ],
        outputs=[value("y", (2, 1))],
    ),
    "the scales of groups": lambda: model(
        [node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2, epsilon=0.1)],
        inputs=[value("x", (2, 4, 3))],
        outputs=[value("y", (2, 4, 3))],
        weights={"s": np.array([1, 2], "float32"), "b": np.array([3, 4], "float32")},
        opset=18,
    ),
    "a dead node of another domain": lambda: model(
        [node("Relu", ["x"], ["y"]), node("Normalizer", ["x"], ["d"], domain="ai.onnx.ml", norm="L2")],
        imports=[("ai.onnx.ml", 3)],
    ),
    "standard operators by their other name": lambda: model(
        [node("Add", ["x", "w"], ["t"], domain="ai.onnx"), node("Relu", ["t"], ["y"])]
    ),
    "the opset by its other name": lambda: model([node("Softmax", ["x"], ["y"])], imports=[("ai.onnx", 12)]),
    "the opset twice": lambda: model([node("Softmax", ["x"], ["y"])], imports=[("", 12)]),
    "the older opset first": lambda: model([node("Softmax", ["x"], ["y"])], opset=12, imports=[("", 17)]),
    "an import of unknown operators": lambda: model(imports=[("acme", 3)]),
    "a branch without types": lambda: branches(
        [node("Relu", ["x"], ["p"])], [node("Neg", ["x"], ["q"])], None
    ),
    "a branch out of order": lambda: branches(
        [node("Relu", ["r"], ["p"]), node("Neg", ["x"], ["r"])], [node("Neg", ["x"], ["q"])]
    ),
    "a branch that gives a value from outside": lambda: branches([], [node("Neg", ["x"], ["q"])]),
    "a function": lambda: calls([node("Relu", ["a"], ["b"])]),
    "a function of a newer opset": lambda: calls([node("Relu", ["a"], ["b"])], opset=18),
    "a function of an older opset": lambda: calls([node("Softmax", ["a"], ["b"], axis=-1)], opset=12),
    "a function that calls itself": lambda: calls([node("F", ["a"], ["b"], domain="acme")]),
    "a function with an attribute": lambda: calls(
        [referring("Softmax", "axis", "over")],
        call=node("F", ["x"], ["y"], domain="acme", over=0),
        attributes=["over"],
    ),
    "a function without its attribute": lambda: calls(
        [referring("Softmax", "axis", "over")], attributes=["over"]
    ),
    "a function without its optional input": lambda: calls(
        [node("Clip", ["a", "low"], ["b"])], inputs=("a", "low")
    ),
    "a function in place of a standard operator": lambda: calls(
        [node("Neg", ["a"], ["b"])], name="Relu", domain=""
    ),
}  # fmt: skip


@changed("no IR version")
def _(made):
    made.ClearField("ir_version")


@changed("no opset")
def _(made):
    del made.opset_import[:]


@changed("an input without an element type")
def _(made):
    made.graph.input[0].type.tensor_type.elem_type = 0


@changed("no name of the graph")
def _(made):
    made.graph.ClearField("name")


@changed("equal names of nodes")
def _(made):
    for each in made.graph.node:
        each.name = "same"


@changed("metadata twice")
def _(made):
    for text in "ab":
        made.metadata_props.add(key="author", value=text)
    made.training_info.add()


@changed("an attribute without a type")
def _(made):
    del made.graph.node[:]
    made.graph.node.append(node("Softmax", ["x"], ["y"], axis=0))
    made.graph.node[0].attribute[0].ClearField("type")


@changed("a weight twice")
def _(made):
    made.graph.initializer.append(numpy_helper.from_array(3 * WIDE, "w"))


@changed("a weight without a name")
def _(made):
    made.graph.initializer.append(numpy_helper.from_array(WIDE, ""))


@changed("a weight that is too short")
def _(made):
    made.graph.initializer[0].raw_data = b"1234"


@changed("an unused weight that is too short")
def _(made):
    made.graph.initializer.add(name="u", data_type=FLOAT, dims=[5], raw_data=b"12")


@changed("a weight in two fields")
def _(made):
    made.graph.initializer[0].float_data.extend([7] * 6)


@changed("a weight of no type")
def _(made):
    made.graph.initializer[0].data_type = 0


@changed("a weight of negative size")
def _(made):
    made.graph.initializer[0].dims[:] = [-2, -3]


@pytest.mark.parametrize("indices", [SPARSE[1], np.array([[0, 1], [1, 1]])], ids=["flat", "by axes"])
def test_sparse_weights(tmp_path, indices):
    made = model()
    del made.graph.initializer[:]
    where = numpy_helper.from_array(indices, "i")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(SPARSE[0], where, [2, 3]))
    require_same(made, tmp_path)


@pytest.mark.parametrize("indices", [[1, 9], [-9, 1]])
def test_sparse_weights_out_of_range_are_refused(tmp_path, indices):
    made = model()
    del made.graph.initializer[:]
    where = numpy_helper.from_array(np.array(indices), "i")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(SPARSE[0], where, [2, 3]))
    with pytest.raises(InputError) as caught:
        load_onnx(written(made, tmp_path))
    assert caught.value.next


def written(made, folder):
    path = folder / "m.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def open_inputs(made) -> Iterator[Input]:
    """Shapes for inputs that have none: that of ``X``."""
    for each in made.graph.input:
        dims = each.type.tensor_type.shape.dim
        if not each.type.tensor_type.HasField("shape") or any(dim.dim_value < 0 for dim in dims):
            yield Input(name=each.name, shape=X.shape)


def run_original(path, inputs=()):
    """The outputs of onnxruntime, and what it read; None if it refuses the file. ``inputs`` have the shape of ``X``."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - of no common class
        return None
    feeds = {}
    for each in session.get_inputs():
        known = any(each.name == given.name for given in inputs)
        dims = X.shape if known else each.shape
        shape = [dim if isinstance(dim, int) else 2 for dim in dims]
        feeds[each.name] = np.resize(X, shape).astype("float32")
    return session.run(None, feeds), feeds


def require_same(made, folder):
    path = written(made, folder)
    inputs = tuple(open_inputs(made))
    ran = run_original(path, inputs)
    if ran is None:
        with pytest.raises(InputError) as caught:
            import_checked(path, inputs, folder / "out.onnx")
        assert caught.value.next, caught.value.render()
        return
    import_checked(path, inputs, folder / "out.onnx")
    expected, feeds = ran
    actual = run_onnx(folder / "out.onnx", feeds)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_what_onnxruntime_runs_is_imported_and_computes_the_same(name, tmp_path):
    require_same(CASES[name](), tmp_path)


def test_most_cases_are_files_that_onnxruntime_runs(tmp_path):
    ran = [name for name, build in CASES.items() if run_original(written(build(), tmp_path)) is not None]
    assert len(ran) > len(CASES) / 2


def test_a_shape_that_inference_lacks_is_that_of_the_input(tmp_path):
    """ONNX infers no shape for GroupNormalization of opset 21."""
    six = np.linspace(1, 2, 6).astype("float32")
    norm = node("GroupNormalization", ["x", "g", "b"], ["y"], num_groups=2)
    sums = [norm, node("GlobalAveragePool", ["y"], ["z"])]
    for nodes, output in (([norm], "y"), (sums, "z")):
        made = model(nodes, inputs=[value("x", (1, 6, 4, 4))], outputs=[value(output, None)], weights={"g": six, "b": six}, opset=21)  # fmt: skip
        require_same(made, tmp_path)


def test_a_function_whose_opset_onnxruntime_ignores_is_refused(tmp_path):
    """Softmax of opset 12 normalises over all axes from axis 0, but onnxruntime takes the model's opset, 17."""
    made = calls([node("Softmax", ["a"], ["b"], axis=0)], opset=12)
    with pytest.raises(ImportDiffersError) as caught:
        import_checked(written(made, tmp_path), (), tmp_path / "out.onnx")
    assert caught.value.next


def test_functions_that_multiply_are_refused_before_they_are_inlined(tmp_path):
    """Each function calls the next one ten times: 10^12 nodes."""
    made = calls([node("Relu", ["a"], ["b"])], name="F0")
    for level in range(1, 13):
        names = ["a", *(f"v{n}" for n in range(9)), "b"]
        body = [
            node(f"F{level - 1}", [before], [after], domain="acme")
            for before, after in itertools.pairwise(names)
        ]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("acme", 1)]
        made.functions.append(helper.make_function("acme", f"F{level}", ["a"], ["b"], body, opsets, []))
    made.graph.node[0].op_type = "F12"
    with pytest.raises(InputError, match="nodes with its functions inlined") as caught:
        load_onnx(written(made, tmp_path))
    assert caught.value.next


@pytest.mark.parametrize("kind", ["input", "inside"])
def test_text_is_refused_by_name(tmp_path, kind):
    inputs, weights = [value("x")], {"s": np.array(["a", "b"], object)}
    if kind == "input":
        inputs, weights = [*inputs, value("s", (2,), TensorProto.STRING)], {}
    made = model(
        [node("Relu", ["x"], ["y"]), node("StringNormalizer", ["s"], ["q"], name="words")],
        inputs=inputs,
        outputs=[value("y"), value("q", (2,), TensorProto.STRING)],
        weights=weights,
    )
    with pytest.raises(InputError, match="StringNormalizer computes with text") as caught:
        import_checked(written(made, tmp_path), (), tmp_path / "out.onnx")
    assert "outside the model" in caught.value.next
    assert "words" in caught.value.where


@pytest.mark.parametrize("what", ["input", "constant", "range"])
def test_tensors_that_no_machine_holds_are_refused_before_they_are_computed(tmp_path, what):
    huge = 2**40
    made = {
        "input": lambda: model([node("Relu", ["x"], ["y"])], inputs=[value("x", (huge, 3))], outputs=[value("y", None)]),
        "constant": lambda: model(
            [node("ConstantOfShape", ["n"], ["t"]), node("Add", ["x", "t"], ["y"])], inputs=[value("x", (1,))], outputs=[value("y", None)], weights={"n": np.array([huge])}
        ),
        "range": lambda: model(
            [node("Range", ["a", "n", "d"], ["t"]), node("Cast", ["t"], ["f"], to=FLOAT), node("Add", ["x", "f"], ["y"])],
            inputs=[value("x", (1,))], outputs=[value("y", None)], weights={"a": np.array(0), "n": np.array(huge), "d": np.array(1)},
        ),
    }[what]()  # fmt: skip
    with pytest.raises(InputError, match=r"GiB|elements") as caught:
        import_checked(written(made, tmp_path), (), tmp_path / "out.onnx")
    assert caught.value.next


def test_a_function_of_a_domain_that_the_file_imports_twice_is_inlined_with_its_types(tmp_path):
    """The body's values have no types, and the output's type is only known from it."""
    made = calls([node("Relu", ["a"], ["r"]), node("Neg", ["r"], ["b"])])
    made.graph.output[0].CopyFrom(ValueInfoProto(name="y"))
    made.opset_import.append(helper.make_opsetid("acme", 1))
    require_same(made, tmp_path)
    assert [each.op_type for each in onnx.load(tmp_path / "out.onnx").graph.node] == ["Relu", "Neg"]
