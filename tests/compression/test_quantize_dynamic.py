"""Dynamic quantization: right in onnxruntime and compiled, without samples, and only where weights are."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgepack.compression import quantize_dynamic
from edgepack.compression.method import Context
from edgepack.compression.quantize_dynamic import QuantizeDynamic
from edgepack.config.target import load_target
from edgepack.errors import InputError
from edgepack.export import evaluate, relative_error, run_onnx, to_onnx
from edgepack.lower import compile_model
from edgepack.lower.host import open_on_host
from edgepack.onnxfile.counting import count
from edgepack.spec import Input


def step(**options):
    return QuantizeDynamic(**{"method": "quantize-dynamic", **options})


def test_the_file_gets_smaller_and_keeps_its_accuracy(model, data, inputs, tmp_path):
    out = tmp_path / "q.onnx"
    metrics = quantize_dynamic.apply(model, out, step(), Context(inputs))
    assert metrics["size"] == [model.stat().st_size, out.stat().st_size]
    assert metrics["size"][0] > 3.3 * metrics["size"][1]
    assert metrics["activations"] == len(metrics["layers"]) == 7
    assert evaluate(out, data.x_test, data.y_test) >= evaluate(model, data.x_test, data.y_test) - 0.004
    assert count(out).parameters == count(model).parameters
    assert count(out).macs == count(model).macs
    quantize_dynamic.apply(model, tmp_path / "again.onnx", step(), Context(inputs))
    assert (tmp_path / "again.onnx").read_bytes() == out.read_bytes()


def test_skipped_layers_and_their_inputs_stay_float(model, inputs, tmp_path):
    metrics = quantize_dynamic.apply(
        model, tmp_path / "q.onnx", step(skip=("classifier", "last.*"), per_channel=False), Context(inputs)
    )
    assert metrics["activations"] == 5
    assert metrics["kept_whole"] == dict.fromkeys(
        ["classifier.weight", "last.0.weight"], "skipped by the recipe"
    )
    tensors = {tensor.name: tensor for tensor in onnx.load(tmp_path / "q.onnx").graph.initializer}
    assert list(tensors["pointwise.0.weight_scale"].dims) == []
    with pytest.raises(InputError, match="no weight gets smaller"):
        quantize_dynamic.apply(model, tmp_path / "none.onnx", step(skip=("*",)), Context(inputs))


class Mixed(nn.Module):
    """Two inputs, tied weights, a product of two activations, a recurrent layer, a transposed convolution."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(40, 16)
        self.query, self.key = nn.Linear(16, 16), nn.Linear(16, 16, bias=False)
        self.up = nn.ConvTranspose1d(16, 16, 2, stride=2)
        self.gru = nn.GRU(16, 16, batch_first=True)

    def forward(self, ids, scale):
        x = self.words(ids) * scale
        x = torch.softmax(self.query(x) @ self.key(x).transpose(1, 2), -1) @ x
        x = self.gru(self.up(x.transpose(1, 2)).transpose(1, 2))[0]
        return x @ self.words.weight.T


def test_only_what_meets_weights_is_quantized(tmp_path):
    inputs = (Input(name="ids", shape=(1, 6), dtype="int64"), Input(name="scale", shape=(1, 1, 16)))
    torch.manual_seed(0)
    path = to_onnx(Mixed().eval(), inputs, tmp_path / "m.onnx")
    metrics = quantize_dynamic.apply(path, tmp_path / "q.onnx", step(), Context(inputs))
    graph = onnx.load(tmp_path / "q.onnx").graph
    quantized = [node.input[0] for node in graph.node if node.op_type == "DynamicQuantizeLinear"]
    assert len(quantized) == len(set(quantized)) == metrics["activations"]
    decoded = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    products = [node for node in graph.node if node.op_type == "MatMul"]
    assert sum(not decoded & set(node.input) for node in products) == 2  # the two of the attention
    rng = np.random.default_rng(0)
    feed = {"ids": rng.integers(0, 40, (1, 6)), "scale": rng.random((1, 1, 16), "float32")}
    assert relative_error(run_onnx(tmp_path / "q.onnx", feed)[0], run_onnx(path, feed)[0]) < 0.03


def test_compiled_it_computes_what_onnxruntime_does(tmp_path):

    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
    ).eval()
    path = to_onnx(module, (Input(name="x", shape=(1, 2, 4, 4)),), tmp_path / "m.onnx")
    quantize_dynamic.apply(path, tmp_path / "q.onnx", step(), Context(()))
    result = compile_model(tmp_path / "q.onnx", load_target("x86-64-v3"), tmp_path / "m.so")
    assert {"int8"} < {constant.encoding for constant in result.constants}
    machine = open_on_host(result.path)
    for value in (np.random.default_rng(0).standard_normal((1, 2, 4, 4)), np.zeros((1, 2, 4, 4))):
        x = value.astype("float32")
        got = machine(x)[0]
        assert relative_error(got, run_onnx(tmp_path / "q.onnx", {"x": x})[0]) < 1e-5
