"""What a comparison of two models must find, also where their outputs hardly show it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from edgepack.errors import ImportDiffersError
from edgepack.export import importing as room
from edgepack.export.comparing import difference, require_same
from edgepack.export.importing import import_checked
from edgepack.export.reference import run_onnx
from edgepack.onnxfile import importing as files
from edgepack.onnxfile.importing import keep_model
from edgepack.spec import Input

node = helper.make_node
WEIGHT = np.random.default_rng(0).standard_normal((6, 6)).astype("float32")
INPUTS = (Input(name="x", shape=(1, 6)),)


def written(path, nodes, *, shape=(1, 6), kind=T.FLOAT, opset=18, functions=(), imports=(), **constants):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", T.FLOAT, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), *imports],
        ir_version=10,
        functions=list(functions),
    )
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


ONE = np.float32(1)
BLIND = {
    "always NaN": ([node("Abs", ["a"], ["b"]), node("Add", ["b", "one"], ["c"]), node("Neg", ["c"], ["d"]), node("Log", ["d"], ["y"])], T.FLOAT),
    "always 0": ([node("Abs", ["a"], ["b"]), node("Neg", ["b"], ["c"]), node("Relu", ["c"], ["y"])], T.FLOAT),
    "an index": ([node("Identity", ["a"], ["b"]), node("ArgMax", ["b"], ["y"], axis=1)], T.INT64),
    "a truth value": ([node("Identity", ["a"], ["b"]), node("Greater", ["b", "one"], ["y"])], T.BOOL),
}  # fmt: skip


@pytest.mark.parametrize("what", BLIND)
def test_outputs_that_hardly_show_a_difference_are_supplemented(what, tmp_path):
    rest, kind = BLIND[what]
    nodes = [node("MatMul", ["x", "w"], ["a"], name="first"), *rest]
    path = written(tmp_path / "m.onnx", nodes, kind=kind, w=WEIGHT, one=ONE)
    same = written(tmp_path / "same.onnx", nodes, kind=kind, w=WEIGHT, one=ONE)
    other = written(tmp_path / "other.onnx", nodes, kind=kind, w=WEIGHT * np.float32(1.01), one=ONE)
    assert require_same(path, same, INPUTS)
    with pytest.raises(ImportDiffersError) as caught:
        require_same(path, other, INPUTS)
    assert "'a'" in caught.value.why
    assert "node 'first' (MatMul)" in caught.value.why


@pytest.mark.parametrize("axis", [1, 2])
def test_scores_beside_large_boxes_are_compared(tmp_path, axis):
    shape, rng = ((1, 1, 40), (1, 40, 1))[axis - 1], np.random.default_rng(0)
    nodes = [
        node("Mul", ["x", "image"], ["boxes"]),
        node("Mul", ["x", "w"], ["a"]),
        node("Sigmoid", ["a"], ["scores"], name="score"),
        node("Concat", ["boxes", "scores"], ["y"], axis=axis),
    ]
    w = rng.standard_normal(shape).astype("float32")
    path = written(tmp_path / "m.onnx", nodes, shape=shape, image=np.float32(640), w=w)
    other = written(
        tmp_path / "other.onnx", nodes, shape=shape, image=np.float32(640), w=w * np.float32(1.05)
    )
    with pytest.raises(ImportDiffersError):
        require_same(path, other, (Input(name="x", shape=shape),))


def test_small_values_are_not_compared_with_themselves():
    """The rounding of sums that cancel is as large as that of others."""
    want = np.full((1, 2, 40), 1e-9, "float32")
    want[0, 1] = 1
    assert difference(want + np.float32(1e-7), want) < 1e-4
    assert difference(np.zeros((1, 2), "float32"), np.zeros((1, 2), "float32")) == 0
    assert difference(np.array([1, np.nan]), np.array([1, np.nan])) == 0
    assert difference(np.array([1, np.inf]), np.array([1, -np.inf])) == np.inf
    assert difference(np.zeros((0, 3)), np.zeros((0, 3))) == 0


def test_a_limit_beyond_the_range_of_made_up_inputs_is_compared(tmp_path):
    clip = [node("Clip", ["x", "low", "high"], ["y"])]
    low, shape = np.float32(0), (1, 3, 8, 8)
    path = written(tmp_path / "m.onnx", clip, shape=shape, low=low, high=np.float32(6))
    other = written(tmp_path / "other.onnx", clip, shape=shape, low=low, high=np.float32(5))
    with pytest.raises(ImportDiffersError):
        require_same(path, other, (Input(name="x", shape=shape),))


def test_a_rewrite_whose_comparison_tells_nothing_is_not_used(tmp_path, monkeypatch):
    nodes = [node("Mul", ["x", "zero"], ["y"])]
    path = written(tmp_path / "m.onnx", nodes, zero=np.float32(0))
    called = []

    def rewrite(model, where):
        called.append(where)
        return model

    def keep(model, where):
        called.append("kept")
        return model

    monkeypatch.setattr(room, "keep_model", keep)
    monkeypatch.setattr(room, "SIMPLIFICATIONS", (rewrite, keep))
    import_checked(path, (), tmp_path / "out.onnx")
    assert called == [str(path), "kept"]


@pytest.mark.parametrize(
    "error", [KeyError("r/shape_1"), RuntimeError("x"), AssertionError(), ValueError("two of one name")]
)
def test_what_a_rewrite_raises_leaves_the_model_as_it_is(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(files, "simplify", fail)
    monkeypatch.setattr(files, "fold_constants", fail)
    path = written(tmp_path / "m.onnx", [node("MatMul", ["x", "w"], ["y"])], w=WEIGHT)
    import_checked(path, (), tmp_path / "out.onnx")
    x = np.ones((1, 6), "float32")
    np.testing.assert_allclose(run_onnx(tmp_path / "out.onnx", {"x": x})[0], x @ WEIGHT, rtol=1e-5)


def test_an_output_that_the_import_renames_is_compared_by_its_place(tmp_path):
    path = written(tmp_path / "m.onnx", [node("MatMul", ["x", "w"], ["y"])], w=WEIGHT)
    model = onnx.load(path)
    model.graph.output[0].name = model.graph.node[0].output[0] = "z"
    onnx.save(model, tmp_path / "renamed.onnx")
    assert require_same(path, tmp_path / "renamed.onnx", INPUTS)


def test_a_function_of_an_older_opset_than_its_model_keeps_its_meaning(tmp_path):
    own = helper.make_function(
        "own", "Normal", ["a"], ["b"], [node("Softmax", ["a"], ["b"], axis=1)], [helper.make_opsetid("", 11)]
    )
    call = [helper.make_node("Normal", ["x"], ["y"], domain="own")]
    path = written(
        tmp_path / "m.onnx",
        call,
        shape=(2, 3, 4),
        opset=11,
        functions=[own],
        imports=[helper.make_opsetid("own", 1)],
    )
    import_checked(path, (), tmp_path / "out.onnx")
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype("float32")
    flat = np.exp(x.reshape(2, 12))
    want = (flat / flat.sum(1, keepdims=True)).reshape(2, 3, 4)
    np.testing.assert_allclose(run_onnx(tmp_path / "out.onnx", {"x": x})[0], want, rtol=1e-5)


def test_keeping_is_the_last_of_the_simplifications():
    assert room.SIMPLIFICATIONS[-1] is keep_model
