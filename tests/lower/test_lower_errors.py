"""Errors name what cannot be compiled: operator, node, axis, compiler."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgepack.config.target import load_target
from edgepack.errors import EdgepackError, InputError, UnsupportedError
from edgepack.lower import compile_model
from edgepack.lower.locating import locate
from edgepack.lower.onnx.frontend import import_model, to_relax
from edgepack.lower.onnx.rewrites import passes
from edgepack.onnxfile import load_onnx
from edgepack.toolchain import zig


def compile_for_host(path, tmp_path):
    return compile_model(path, load_target("x86-64-v3"), tmp_path / "m.so")


def test_an_operator_without_importer_is_named_with_its_node(one_node, tmp_path):
    weights = {"w": np.zeros((1, 1, 2, 2), "float32"), "offsets": np.zeros((1, 8, 3, 3), "float32")}
    path = one_node("DeformConv", {"x": [1, 1, 4, 4]}, weights, out_shape=[1, 1, 3, 3], opset=19)
    with pytest.raises(InputError) as caught:
        compile_for_host(path, tmp_path)
    assert "operator DeformConv" in caught.value.message
    assert "node the_node" in caught.value.where
    assert "supported operators" in caught.value.next
    assert not (tmp_path / "m.so").exists()


def test_an_unsupported_form_of_an_operator_is_named(one_node, tmp_path, capfd):
    pads = {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], "int64")}
    path = one_node("Pad", {"x": [1, 4, 8, 8]}, pads, out_shape=[1, 4, 10, 10], mode="unheard-of")
    with pytest.raises(InputError) as caught:
        compile_for_host(path, tmp_path)
    assert "operator Pad (opset 18)" in caught.value.message
    assert "the_node" in caught.value.where
    assert "unheard-of" in caught.value.why
    assert not capfd.readouterr().out


def test_an_open_axis_is_named(one_node, tmp_path):
    path = one_node("Relu", {"x": [1, 4, "height", 8]}, {}, out_shape=[1, 4, "height", 8])
    with pytest.raises(InputError, match="axis 2 of input 'x' has no fixed size \\(height\\)"):
        compile_for_host(path, tmp_path)


def test_broken_files_are_refused(tmp_path):
    empty = tmp_path / "empty.onnx"
    empty.touch()
    for path in (empty, tmp_path / "missing.onnx"):
        with pytest.raises(InputError):
            compile_for_host(path, tmp_path)


def test_a_failing_compiler_says_why(tmp_path):
    source = tmp_path / "broken.c"
    source.write_text("int f(void) { return missing; }\n")
    with pytest.raises(EdgepackError) as caught:
        zig.compile_c([source], tmp_path / "broken.o", "aarch64", "2.31", ["-c"])
    assert "missing" in caught.value.why
    assert "aarch64-linux-gnu.2.31" in caught.value.next


def test_an_error_of_a_later_phase_is_located_in_its_nodes(network):
    model, where = load_onnx(network), str(network)
    _, _, lowered = import_model(model, where)

    def lower(module):
        if "conv2d" in module.script():
            raise EdgepackError("lowering phase 04 failed", why="no convolution today")

    problems = list(locate(lowered, where, lower))
    assert [problem.node for problem in problems] == ["first", "depthwise", "second"]
    assert {problem.why for problem in problems} == {"no convolution today"}


def test_an_error_in_a_model_of_several_inputs_is_located_in_its_node(tmp_path, monkeypatch):
    monkeypatch.setattr(passes, "REWRITES", {})  # TVM alone fails on it
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "abxw"]
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["a", "b"], ["c"], name="sound"),
            helper.make_node("RMSNormalization", ["x", "w"], ["n"], name="broken", axis=0),
            helper.make_node("Add", ["c", "n"], ["y"], name="last"),
        ],
        "one",
        floats,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11), path)
    with pytest.raises(UnsupportedError) as caught:
        compile_for_host(path, tmp_path)
    assert [(each.operator, each.node) for each in caught.value.model_problems] == [
        ("RMSNormalization", "broken")
    ]


def test_a_constant_that_tvm_cannot_store_is_reported_with_the_node_that_reads_it(tmp_path):
    complex_ones = helper.make_tensor("c", TensorProto.COMPLEX64, [2], [1.0, 1.0])
    graph = helper.make_graph(
        [helper.make_node("Size", ["c"], ["n"], name="reader"), helper.make_node("Add", ["x", "n"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [2])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [2])],
        [complex_ones],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    problems = []
    to_relax(onnx.shape_inference.infer_shapes(model), "m.onnx", problems.append)
    assert [(problem.operator, problem.node) for problem in problems] == [("Size", "reader")]
    assert "complex64" in problems[0].why
