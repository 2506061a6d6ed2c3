"""Imported models give the same results as the original file, or are rejected naming the first tensor that differs."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from edgepack.errors import ImportDiffersError, InputError
from edgepack.export import importing as room
from edgepack.export.importing import import_checked
from edgepack.export.reference import run_onnx
from edgepack.onnxfile.sampling import made_up

node = helper.make_node
RNG = np.random.default_rng(0)


def f32(*shape):
    return RNG.standard_normal(shape).astype("float32")


@pytest.fixture
def write(tmp_path):
    def make(nodes, inputs, outputs, constants=(), *, opset=17, ir=8):
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
            [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(constants).items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
        path = tmp_path / "m.onnx"
        onnx.save(onnx.shape_inference.infer_shapes(model), path)
        return path

    return make


def same(path, out):
    inputs = import_checked(path, (), out)
    for feed in (sample.inputs for sample in made_up(path, inputs, 3)):
        for got, want in zip(run_onnx(out, feed), run_onnx(path, feed), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    return onnx.load(out)


def test_two_flattens_of_one_tensor_are_told_apart(write, tmp_path):
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Flatten", ["r"], ["f"], axis=1),
        node("Flatten", ["r"], ["g"], axis=2),
        node("Gemm", ["f", "w1"], ["y"]),
        node("Gemm", ["g", "w2"], ["z"]),
    ]
    constants = {"w1": f32(36, 5), "w2": f32(9, 2)}
    path = write(nodes, [("x", T.FLOAT, [1, 4, 3, 3])], [("y", T.FLOAT), ("z", T.FLOAT)], constants)
    same(path, tmp_path / "out.onnx")


def test_two_old_softmax_of_one_tensor_are_told_apart(write, tmp_path):
    nodes = [node("Softmax", ["x"], ["y"], axis=1), node("Softmax", ["x"], ["z"], axis=2)]
    path = write(nodes, [("x", T.FLOAT, [2, 3, 4, 2])], [("y", T.FLOAT), ("z", T.FLOAT)], opset=11, ir=6)
    same(path, tmp_path / "out.onnx")


def test_batch_statistics_of_a_training_export_are_kept(write, tmp_path):
    constants = {"w": f32(8, 3, 3, 3), "s": np.ones(8, "float32"), "b": f32(8), "m": f32(8), "v": f32(8) ** 2}
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y", "m2", "v2"], training_mode=1),
    ]
    path = write(nodes, [("x", T.FLOAT, [4, 3, 8, 8])], [("y", T.FLOAT)], constants)
    imported = same(path, tmp_path / "out.onnx")
    assert "ReduceMean" in [each.op_type for each in imported.graph.node]


@pytest.mark.parametrize("before", [(), ("Relu",)])
def test_a_rewrite_that_changes_values_is_refused_with_its_node(write, tmp_path, monkeypatch, before):
    def spoil(model, where):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        (resize,) = (each for each in copy.graph.node if each.op_type == "Resize")
        resize.attribute[0].s = b"half_pixel"
        return copy

    nodes = [node("Relu", ["x"], ["r"])] if before else []
    nodes += [
        node("Resize", ["r" if before else "x", "s"], ["u"], name="up", mode="linear"),
        node("Sigmoid", ["u"], ["y"]),
    ]
    scales = {"s": np.array([1, 1, 2, 2], "float32")}
    path = write(nodes, [("x", T.FLOAT, [1, 2, 4, 5])], [("y", T.FLOAT)], scales, opset=10, ir=5)
    same(path, tmp_path / "out.onnx")
    monkeypatch.setattr(room, "SIMPLIFICATIONS", (spoil,))
    with pytest.raises(ImportDiffersError, match="changes what it computes, by") as caught:
        import_checked(path, (), tmp_path / "out.onnx")
    assert caught.value.exit_code == 2
    assert "'u'" in caught.value.why
    assert "node 'up' (Resize)" in caught.value.why
    assert not (tmp_path / "out.onnx").exists()


def test_any_change_of_a_weight_is_found_and_named(write, tmp_path, monkeypatch):
    def spoil(model, where):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        (weight,) = (tensor for tensor in copy.graph.initializer if tensor.name == "w2")
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), "w2"))
        return copy

    nodes = [
        node("MatMul", ["x", "w1"], ["a"]),
        node("Tanh", ["a"], ["b"]),
        node("MatMul", ["b", "w2"], ["c"], name="second"),
        node("Tanh", ["c"], ["y"]),
    ]
    path = write(nodes, [("x", T.FLOAT, [1, 6])], [("y", T.FLOAT)], {"w1": f32(6, 6), "w2": f32(6, 6)})
    monkeypatch.setattr(room, "SIMPLIFICATIONS", (spoil,))
    with pytest.raises(ImportDiffersError) as caught:
        import_checked(path, (), tmp_path / "out.onnx")
    assert "'c'" in caught.value.why
    assert "node 'second' (MatMul)" in caught.value.why


def test_a_rewrite_that_breaks_the_file_is_left_out(write, tmp_path, monkeypatch):
    def broken(model, where):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        del copy.graph.initializer[:]
        return copy

    path = write(
        [node("MatMul", ["x", "w"], ["y"])], [("x", T.FLOAT, [1, 6])], [("y", T.FLOAT)], {"w": f32(6, 6)}
    )
    monkeypatch.setattr(room, "SIMPLIFICATIONS", (broken, *room.SIMPLIFICATIONS))
    same(path, tmp_path / "out.onnx")


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), layers=st.integers(1, 6), bits=st.sampled_from(["uint8", "int8"]))
def test_quantized_chains_are_not_refused_for_their_rounding(tmp_path_factory, seed, layers, bits):
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("chain")
    nodes, constants, last = [], {}, "x"
    for i in range(layers):
        constants |= {
            f"w{i}": (rng.standard_normal((8, 8)) / 3).astype("float32"),
            f"s{i}": np.float32(rng.uniform(0.01, 0.05)),
            f"z{i}": np.asarray(rng.integers(0, 100), bits),
            f"b{i}": rng.standard_normal(8).astype("float32"),
        }
        nodes += [
            node("QuantizeLinear", [last, f"s{i}", f"z{i}"], [f"q{i}"]),
            node("DequantizeLinear", [f"q{i}", f"s{i}", f"z{i}"], [f"d{i}"]),
            node("Gemm", [f"d{i}", f"w{i}", f"b{i}"], [f"g{i}"]),
            node("Relu", [f"g{i}"], [f"r{i}"]),
        ]
        last = f"r{i}"
    nodes.append(node("Identity", [last], ["y"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", T.FLOAT, [4, 8])],
        [helper.make_tensor_value_info("y", T.FLOAT, [4, 8])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "m.onnx"
    )
    import_checked(folder / "m.onnx", (), folder / "out.onnx")


def test_a_file_that_does_not_run_is_refused_in_onnxruntimes_words(write, tmp_path):
    nodes = [node("Reshape", ["x", "s"], ["y"])]
    path = write(nodes, [("x", T.FLOAT, [1, 6])], [("y", T.FLOAT)], {"s": np.array([4, 4])})
    with pytest.raises(InputError):
        import_checked(path, (), tmp_path / "out.onnx")
