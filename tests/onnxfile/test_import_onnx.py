"""Importing ONNX files: valid ones are not changed, others give errors with the reason."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.errors import InputError, UnsupportedError
from edgepack.export import relative_error, run_onnx
from edgepack.onnxfile import load_onnx, opset_of
from edgepack.onnxfile.importing import import_onnx
from edgepack.onnxfile.reading import MAX_OPSET
from edgepack.spec import Input

WEIGHTS = np.arange(12, dtype="float32").reshape(3, 4)
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def model(shape=(2, 3), opset=18, ir_version=10, weights=WEIGHTS, dtype=TensorProto.FLOAT):
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", dtype, [None, None])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def written(tmp_path, proto):
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_a_good_model_is_read_and_imported(tmp_path):
    path = written(tmp_path, model())
    assert load_onnx(path).graph.node[0].op_type == "MatMul"
    assert import_onnx(path, (), tmp_path / "out.onnx") == (Input(name="x", shape=(2, 3)),)
    (y,) = run_onnx(tmp_path / "out.onnx", {"x": np.ones((2, 3), "float32")})
    assert np.array_equal(y, np.ones((2, 3)) @ WEIGHTS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"this is not a model", "not an ONNX model"),
        (b"\x08\x0a", "not an ONNX model"),
        (model().SerializeToString()[:-20], "not an ONNX model, or is truncated"),
    ],
    ids=["empty", "text", "header only", "cut off"],
)
def test_files_that_are_no_models(tmp_path, content, message):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_onnx(path)
    assert caught.value.where == str(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="no such model file"):
        load_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"opset": 6}, "opset 6"), ({"opset": 99}, "opset 99"), ({"ir_version": 99}, "IR version 99")],
)
def test_versions_nobody_knows(tmp_path, fields, message):
    with pytest.raises(InputError, match=message) as caught:
        load_onnx(written(tmp_path, model(**fields)))
    assert "re-export the model" in caught.value.next


def test_an_opset_newer_than_the_tools_is_written_as_the_newest_they_know(tmp_path):
    assert onnx.defs.onnx_opset_version() > MAX_OPSET
    same = load_onnx(written(tmp_path, model(opset=MAX_OPSET + 1)))  # MatMul is the same in both
    assert opset_of(same) == MAX_OPSET
    changed = model(opset=25)
    changed.graph.node.append(helper.make_node("Flatten", ["y"], ["z"]))  # 25 has more element types
    del changed.graph.output[:]
    changed.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [2, 4]))
    path = written(tmp_path, changed)
    assert opset_of(load_onnx(path)) == MAX_OPSET
    import_onnx(path, (), tmp_path / "out.onnx")
    (z,) = run_onnx(tmp_path / "out.onnx", {"x": np.ones((2, 3), "float32")})
    assert np.array_equal(z, np.ones((2, 3)) @ WEIGHTS)


def test_an_operator_that_older_opsets_lack_is_replaced_by_its_definition(tmp_path):
    newer = model(opset=24)
    newer.graph.node.append(helper.make_node("Swish", ["y"], ["z"]))
    newer.graph.output[0].CopyFrom(helper.make_tensor_value_info("z", TensorProto.FLOAT, [2, 4]))
    path = written(tmp_path, newer)
    assert opset_of(load_onnx(path)) == MAX_OPSET
    import_onnx(path, (), tmp_path / "out.onnx")
    x = np.ones((2, 3), "float32") / 8
    (z,) = run_onnx(tmp_path / "out.onnx", {"x": x})
    np.testing.assert_allclose(z, x @ WEIGHTS / (1 + np.exp(-x @ WEIGHTS)), rtol=1e-6)


def test_an_operator_without_a_definition_in_older_opsets_is_named(tmp_path):
    newer = model(opset=26)
    newer.graph.node.append(helper.make_node("BitCast", ["y"], ["z"], to=TensorProto.INT32))
    newer.graph.output[0].CopyFrom(helper.make_tensor_value_info("z", TensorProto.INT32, [2, 4]))
    with pytest.raises(InputError, match=r"operator BitCast \(opset 26\) cannot be imported") as caught:
        load_onnx(written(tmp_path, newer))
    assert "opset 23 has no such operator" in caught.value.why


def test_a_model_without_inputs_is_refused(tmp_path):
    constant = model()
    constant.graph.initializer.append(numpy_helper.from_array(np.ones((2, 3), "float32"), "x"))
    del constant.graph.input[:]
    with pytest.raises(InputError, match="no input"):
        import_onnx(written(tmp_path, constant), (), tmp_path / "out.onnx")


def test_an_invalid_graph_and_foreign_operators(tmp_path):
    broken = model()
    broken.graph.node[0].input[1] = "nowhere"
    with pytest.raises(InputError, match="invalid") as caught:
        load_onnx(written(tmp_path, broken))
    assert "nowhere" in caught.value.why
    foreign = model()
    foreign.graph.node[0].domain = "com.microsoft"
    foreign.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(UnsupportedError, match=r"operator com\.microsoft\.MatMul cannot be compiled"):
        load_onnx(written(tmp_path, foreign))


def test_a_foreign_operator_in_a_branch_is_refused_unless_the_file_defines_it(tmp_path):
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, (2,))
    inner = helper.make_graph([helper.make_node("Strange", ["x"], ["y"], domain="acme")], "then", [], [y])
    plain = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "else", [], [y])
    chosen = helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=plain)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (2,))
    c = helper.make_tensor_value_info("c", TensorProto.BOOL, ())
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, (2,))
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("acme", 1)]
    made = helper.make_model(
        helper.make_graph([chosen], "main", [x, c], [z]), opset_imports=opsets, ir_version=10
    )
    with pytest.raises(UnsupportedError, match=r"operator acme\.Strange cannot be compiled") as caught:
        load_onnx(written(tmp_path, made))
    assert caught.value.next
    body = [helper.make_node("Neg", ["a"], ["b"])]
    made.functions.append(helper.make_function("acme", "Strange", ["a"], ["b"], body, opsets[:1]))
    load_onnx(written(tmp_path, made))


def test_dynamic_shapes_need_the_recipes_inputs(tmp_path):
    path = written(tmp_path, model(shape=("batch", 3)))
    with pytest.raises(InputError, match=r"input 'x' has a dynamic shape \[\?, 3\]") as caught:
        import_onnx(path, (), tmp_path / "out.onnx")
    assert "model.inputs: [{name: x, shape: [...]}]" in caught.value.next
    fixed = Input(name="x", shape=(4, 3))
    assert import_onnx(path, (fixed,), tmp_path / "out.onnx") == (fixed,)
    (y,) = run_onnx(tmp_path / "out.onnx", {"x": np.ones((4, 3), "float32")})
    assert y.shape == (4, 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Input(name="X", shape=(2, 3)), "no input 'X'"),
        (Input(name="x", shape=(2, 5)), r"is \[2, 3\] in the model and \[2, 5\] in the recipe"),
        (Input(name="x", shape=(2, 3, 1)), r"is \[2, 3\] in the model and \[2, 3, 1\] in the recipe"),
        (Input(name="x", shape=(2, 3), dtype="int64"), "is float in the model and int64 in the recipe"),
    ],
)
def test_inputs_that_contradict_the_model(tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        import_onnx(written(tmp_path, model()), (given,), tmp_path / "out.onnx")


def test_an_input_no_board_takes(tmp_path):
    path = written(tmp_path, model(weights=WEIGHTS.astype(ml_dtypes.bfloat16), dtype=TensorProto.BFLOAT16))
    with pytest.raises(InputError, match="input 'x' is bfloat16"):
        import_onnx(path, (), tmp_path / "out.onnx")


def test_shapes_that_depend_on_the_data_are_refused(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("NonZero", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [None, None])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(InputError, match="shape of output 'y' is only known at run time") as raised:
        import_onnx(written(tmp_path, proto), (), tmp_path / "out.onnx")
    assert (
        raised.value.next
        == "end the model with the values, and look for those that are not zero outside the model"
    )


def test_all_outputs_of_unknown_shape_are_listed_with_the_advice_of_their_operators(tmp_path):
    boxes = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 50, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3, 50]),
    ]
    nodes = [
        helper.make_node("NonMaxSuppression", ["boxes", "scores"], ["selected"]),
        helper.make_node("NonZero", ["scores"], ["places"]),
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in ("selected", "places")
    ]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", boxes, outputs),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    with pytest.raises(UnsupportedError) as raised:
        import_onnx(written(tmp_path, proto), (), tmp_path / "out.onnx")
    found = {problem.operator: problem.next for problem in raised.value.model_problems}
    assert found.keys() == {"NonMaxSuppression", "NonZero"}
    assert "select boxes outside" in found["NonMaxSuppression"]


def test_arithmetic_on_shapes_is_folded_away(tmp_path):
    """x.view(x.size(0), -1), as exporters write it for a dynamic batch."""
    graph = helper.make_graph(
        [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Gather", ["shape", "zero"], ["n"]),
            helper.make_node("Unsqueeze", ["n", "axes"], ["n1"]),
            helper.make_node("Concat", ["n1", "rest"], ["to"], axis=0),
            helper.make_node("Reshape", ["x", "to"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None])],
        [
            numpy_helper.from_array(np.array(0), "zero"),
            numpy_helper.from_array(np.array([0]), "axes"),
            numpy_helper.from_array(np.array([-1]), "rest"),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    import_onnx(written(tmp_path, proto), (Input(name="x", shape=(2, 3, 4)),), tmp_path / "out.onnx")
    assert [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node] == ["Reshape"]


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet", "inception_v2"])
def test_real_networks_of_an_old_opset_compute_the_same(tmp_path, name):
    """Opset 9, IR 3, from Caffe2: upgraded during the import."""
    source = LIGHT / f"light_{name}.onnx"
    (given,) = import_onnx(source, (), tmp_path / "out.onnx")
    assert onnx.load(tmp_path / "out.onnx").opset_import[0].version >= 13
    x = {given.name: np.random.default_rng(0).random(given.shape).astype("float32")}
    (got,), (want,) = run_onnx(tmp_path / "out.onnx", x), run_onnx(source, x)
    assert relative_error(got, want) < 1e-5


def test_an_output_without_elements_is_refused(tmp_path):
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("whole", "none")]
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["whole"]),
            helper.make_node("Slice", ["x", "two", "one", "zero"], ["none"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 2])],
        outputs,
        [
            numpy_helper.from_array(np.array([value]), name)
            for value, name in enumerate(("zero", "one", "two"))
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(InputError, match="output 'none' is empty"):
        import_onnx(written(tmp_path, made), (), tmp_path / "out.onnx")
