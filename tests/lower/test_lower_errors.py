"""Errors name what cannot be compiled: operator, node, axis, compiler."""

import numpy as np
import pytest

from edgepack.config.target import load_target
from edgepack.errors import EdgepackError, InputError
from edgepack.lower import compile_model
from edgepack.toolchain import zig


def compile_for_host(path, tmp_path):
    return compile_model(path, load_target("x86-64-v3"), tmp_path / "m.so")


def test_an_operator_without_importer_is_named_with_its_node(one_node, tmp_path):
    weights = {"w": np.zeros((1, 16, 3), "float32"), "r": np.zeros((1, 16, 4), "float32")}
    path = one_node("LSTM", {"x": [5, 1, 3]}, weights, out_shape=[5, 1, 1, 4], hidden_size=4)
    with pytest.raises(InputError) as caught:
        compile_for_host(path, tmp_path)
    assert "operator LSTM" in caught.value.message
    assert "node the_node" in caught.value.where
    assert "recurrent" in caught.value.next
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
