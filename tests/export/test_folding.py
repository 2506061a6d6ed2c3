"""Expressions of weights alone are folded at export, if the file does not grow."""

import numpy as np
import onnx
import onnx_ir
import torch
from torch import nn

from edgepack.export import parity, to_onnx
from edgepack.onnxfile.folding import fold_weights
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
