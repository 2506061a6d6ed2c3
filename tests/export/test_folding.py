"""Expressions of weights alone are folded at export, if the file does not grow."""

import numpy as np
import onnx
import onnx_ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgepack.export import parity, run_onnx, to_onnx
from edgepack.onnxfile.folding import fold_weights, simplify
from edgepack.spec import Input


def operators(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def folded(text, **weights):
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {text}')
    model.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in weights.items())
    ir = onnx_ir.from_proto(onnx.shape_inference.infer_shapes(model))
    fold_weights(ir)
    return [node.op_type for node in ir.graph]


def big(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def test_a_weight_used_in_two_orders_stays_one_weight():
    graph = """g (float[1, 300] x) => (float[1, 300] y)
        { t = Transpose <perm = [1, 0]> (w)   a = MatMul(x, t)   y = MatMul(a, w) }"""
    assert folded(graph, w=big(300, 300)) == ["Transpose", "MatMul", "MatMul"]


def test_a_weight_used_once_is_stored_as_it_is_used():
    graph = "g (float[1, 300] x) => (float[1, 300] y) { t = Transpose <perm = [1, 0]> (w)  y = MatMul(x, t) }"
    assert folded(graph, w=big(300, 300)) == ["MatMul"]


def test_quantized_weights_stay_quantized():
    graph = "g (float[1, 300] x) => (float[1, 300] y) { d = DequantizeLinear(w, s)  y = MatMul(x, d) }"
    weights = {"w": big(300, 300).astype("int8"), "s": np.array(0.1, "float32")}
    assert folded(graph, **weights) == ["DequantizeLinear", "MatMul"]


def test_a_repeated_weight_is_not_stored_repeated():
    graph = "g (float[300, 300] x) => (float[300, 300] y) { e = Expand(w, n)  y = Add(x, e) }"
    assert folded(graph, w=big(1, 300), n=np.array([300, 300])) == ["Expand", "Add"]
    graph = "g (float[300, 300] x) => (float[300, 300] y) { e = Mul(v, w)  y = Add(x, e) }"
    assert folded(graph, w=big(1, 300), v=big(300, 1)) == ["Mul", "Add"]


def test_an_lstm_of_two_layers_has_constant_weights(tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(24, 40, num_layers=2, batch_first=True)

        def forward(self, x):
            return self.lstm(x)[0]

    module = Two()
    path = to_onnx(module, (Input(name="x", shape=(1, 5, 24)),), tmp_path / "two.onnx")
    assert operators(path).count("LSTM") == 2
    assert not {"Slice", "Concat", "Unsqueeze"} & set(operators(path))
    assert parity(module, path, [torch.randn(1, 5, 24).numpy()]) < 1e-5


ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}


@pytest.mark.parametrize("swapped", [False, True], ids=["x op c", "c op x"])
@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div"])
@settings(max_examples=30, deadline=None)
@given(
    c=st.one_of(
        st.floats(-(2**-23), 2**-23, width=32),
        st.floats(1 - 2**-15, 1 + 2**-15, width=32),
        st.sampled_from([0.0, 1.0]),
    )
)
def test_a_constant_that_is_nearly_neutral_is_not_taken_for_it(operator, swapped, c):
    """It keeps logarithms, roots and divisors away from 0: the inputs at which it matters are rare."""
    sides = "c, x" if swapped else "x, c"
    graph = f"g (float[1, 8] x) => (float[1, 8] y) {{ t = {operator}({sides})  y = Identity(t) }}"
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {graph}')
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(c), "c"))
    ir = onnx_ir.from_proto(onnx.shape_inference.infer_shapes(model))
    simplify(ir)
    x = np.array([[0, 1e-12, -1e-9, 1e-8, 1e-4, 1, -1, 3e5]], "float32")
    with np.errstate(all="ignore"):
        (got,) = onnx.reference.ReferenceEvaluator(onnx_ir.to_proto(ir)).run(None, {"x": x})
        want = ARITHMETIC[operator](*((np.float32(c), x) if swapped else (x, np.float32(c))))
    np.testing.assert_array_equal(got, want)


class Loudness(nn.Module):
    def forward(self, x):
        return 10 * torch.log10(x.square().mean(-1) + 1e-10)


def test_silence_has_a_loudness(tmp_path):
    """Without the small number in the logarithm it is minus infinity."""
    path = to_onnx(Loudness(), (Input(name="x", shape=(2, 16)),), tmp_path / "m.onnx")
    silence = torch.zeros(2, 16)
    (got,) = run_onnx(path, {"x": silence.numpy()})
    np.testing.assert_allclose(got, Loudness()(silence).numpy(), rtol=1e-6)
