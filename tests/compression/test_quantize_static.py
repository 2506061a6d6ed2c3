"""Static quantization: int8 with preserved accuracy, in Q/DQ form, without temporary files left behind."""

import dataclasses
import logging
import tempfile
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgepack.compression import binarize, quantize_static
from edgepack.compression.method import Context
from edgepack.compression.quantize_static import QuantizeStatic
from edgepack.errors import InputError
from edgepack.export import evaluate, relative_error, run_onnx, to_onnx
from edgepack.onnxfile import canonicalise, save_onnx
from edgepack.onnxfile.counting import count
from edgepack.onnxfile.encodings import encoded_constants
from edgepack.spec import Input


def step(**options):
    return QuantizeStatic(**{"method": "quantize-static", "samples": 128, **options})


@pytest.fixture
def context(inputs, data):
    return Context(inputs, data)


@pytest.mark.parametrize("calibration", ["minmax", "entropy", "percentile", "mse"])
@pytest.mark.parametrize("activations", ["uint8", "int8"])
def test_every_calibration_keeps_accuracy(model, context, tmp_path, calibration, activations):
    data = context.data
    out = tmp_path / "q.onnx"
    metrics = quantize_static.apply(
        model, out, step(calibration=calibration, activations=activations), context
    )
    assert evaluate(out, data.x_test, data.y_test) >= evaluate(model, data.x_test, data.y_test) - 0.02
    assert metrics == {
        "samples": 128,
        "calibrated_on": "samples",
        "size": [model.stat().st_size, out.stat().st_size],
        "quantized": 7,
        "float": 0,
    }
    assert out.stat().st_size < model.stat().st_size / 2
    graph = onnx.load(out)
    assert {op.domain for op in graph.opset_import} == {""}
    wanted = {"uint8": onnx.TensorProto.UINT8, "int8": onnx.TensorProto.INT8}[activations]
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    zero_points = [tensors[node.input[2]] for node in graph.graph.node if node.op_type == "QuantizeLinear"]
    assert zero_points
    for zero_point in zero_points:
        assert zero_point.data_type == wanted
        assert activations == "uint8" or onnx.numpy_helper.to_array(zero_point) == 0
    assert count(out).macs == count(model).macs
    assert count(out).parameters == count(model).parameters


def test_weights_have_a_scale_for_each_channel(model, context, tmp_path):
    quantize_static.apply(model, tmp_path / "q.onnx", step(), context)
    shapes = {t.name: list(t.dims) for t in onnx.load(tmp_path / "q.onnx").graph.initializer}
    assert shapes["last.0.weight_scale"] == [64]
    quantize_static.apply(model, tmp_path / "t.onnx", step(per_channel=False), context)
    shapes = {t.name: list(t.dims) for t in onnx.load(tmp_path / "t.onnx").graph.initializer}
    assert shapes["last.0.weight_scale"] == []


def test_the_same_step_gives_the_same_bytes_quietly_and_leaves_no_files(  # noqa: PLR0917 - fixtures
    model,
    context,
    tmp_path,
    monkeypatch,
    capfd,
    caplog,
):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with caplog.at_level(logging.INFO):
        for name in ("a.onnx", "b.onnx"):
            quantize_static.apply(model, tmp_path / name, step(), context)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert not list(scratch.iterdir())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "b.onnx", "scratch"]
    assert capfd.readouterr() == ("", "")
    assert not [r for r in caplog.records if not r.name.startswith("torch")]
    assert b"scratch" not in (tmp_path / "a.onnx").read_bytes()


def test_only_the_training_split_is_looked_at(model, context, data, tmp_path):
    quantize_static.apply(model, tmp_path / "a.onnx", step(), context)
    blind = dataclasses.replace(data, x_test=np.full_like(data.x_test, 1e6))
    quantize_static.apply(model, tmp_path / "b.onnx", step(), dataclasses.replace(context, data=blind))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    louder = dataclasses.replace(data, x_train=data.x_train * 100)
    quantize_static.apply(model, tmp_path / "c.onnx", step(), dataclasses.replace(context, data=louder))
    assert (tmp_path / "a.onnx").read_bytes() != (tmp_path / "c.onnx").read_bytes()


def test_skipped_layers_stay_float(model, context, tmp_path):
    metrics = quantize_static.apply(
        model, tmp_path / "q.onnx", step(skip=("classifier", "residual.*")), context
    )
    assert (metrics["quantized"], metrics["float"]) == (4, 3)
    tensors = {t.name: t for t in onnx.load(tmp_path / "q.onnx").graph.initializer}
    assert tensors["classifier.weight"].data_type == onnx.TensorProto.FLOAT
    assert tensors["last.0.weight_quantized"].data_type == onnx.TensorProto.INT8


def test_an_unknown_layer_names_the_near_miss(model, context, tmp_path):
    with pytest.raises(InputError, match="'clasifier'; did you mean 'classifier'"):
        quantize_static.apply(model, tmp_path / "q.onnx", step(skip=("clasifier",)), context)


def test_what_cannot_be_calibrated_is_refused(model, context, data, tmp_path, inputs):
    with pytest.raises(InputError, match="calibration needs samples"):
        quantize_static.apply(model, tmp_path / "q.onnx", step(), Context(inputs))
    flat = dataclasses.replace(data, x_train=data.x_train.reshape(len(data.x_train), 64))
    with pytest.raises(InputError, match=r"samples have shape \[64\], but input 'image' takes \[1, 8, 8\]"):
        quantize_static.apply(model, tmp_path / "q.onnx", step(), dataclasses.replace(context, data=flat))
    assert not (tmp_path / "q.onnx").exists()


def test_more_samples_than_there_are_means_all(model, context, data, tmp_path):
    few = dataclasses.replace(data, x_train=data.x_train[:20], y_train=data.y_train[:20])
    metrics = quantize_static.apply(
        model, tmp_path / "q.onnx", step(), dataclasses.replace(context, data=few)
    )
    assert metrics["samples"] == 20


def test_concatenations_and_activations_of_mobile_networks(context, data, tmp_path):
    class Mobile(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(1, 8, 3), nn.Conv2d(1, 8, 3), nn.Conv2d(16, 16, 3, groups=16)
            self.fc = nn.Linear(16, 10)

        def forward(self, x):
            x = torch.cat([nn.functional.hardswish(self.a(x)), nn.functional.relu6(self.b(x))], 1)
            return self.fc(torch.sigmoid(self.c(x)).mean((2, 3)))

    torch.manual_seed(0)
    module = Mobile().eval()
    path = to_onnx(module, context.inputs, tmp_path / "m.onnx")
    metrics = quantize_static.apply(path, tmp_path / "q.onnx", step(), context)
    assert (metrics["quantized"], metrics["float"]) == (4, 0)
    from edgepack.export import predict, relative_error

    x = data.x_test[:50]
    assert relative_error(predict(tmp_path / "q.onnx", x), predict(path, x)) < 0.1


def test_relax_imports_what_comes_out(model, context, tmp_path):
    from tvm.relax.frontend.onnx import from_onnx

    quantize_static.apply(model, tmp_path / "q.onnx", step(), context)
    graph = onnx.load(tmp_path / "q.onnx")
    module = from_onnx(graph)
    text = module.script()
    ops = Counter(node.op_type for node in graph.graph.node)
    assert text.count("R.quantize(") == ops["QuantizeLinear"]
    assert text.count("R.dequantize(") == ops["DequantizeLinear"]


def test_calibration_sees_exact_integers(data, tmp_path):
    """Products of uint8 and int8 in the file itself, whose sums saturate in onnxruntime's kernels on some CPUs."""
    samples = np.where(np.random.default_rng(0).random((32, 64)) < 0.5, 255, 0).astype("float32")
    codes, weights = np.full((64, 32), 127, "int8"), np.random.default_rng(1).random((32, 10), "float32")
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["bytes"], to=TensorProto.UINT8),
            helper.make_node("MatMulInteger", ["bytes", "codes"], ["sums"]),
            helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["floats", "weights"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(codes, "codes"), numpy_helper.from_array(weights, "weights")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    save_onnx(canonicalise(made), tmp_path / "m.onnx")
    few = dataclasses.replace(data, x_train=samples, y_train=data.y_train[:32])
    context = Context((Input(name="x", shape=(1, 64)),), few)
    quantize_static.apply(tmp_path / "m.onnx", tmp_path / "q.onnx", step(samples=32), context)
    quantized = onnx.load(tmp_path / "q.onnx").graph
    node = next(
        node for node in quantized.node if node.op_type == "QuantizeLinear" and node.input[0] == "floats"
    )
    scale = next(tensor for tensor in quantized.initializer if tensor.name == node.input[1])
    largest = (samples.astype("int64") @ codes.astype("int64")).max()
    assert numpy_helper.to_array(scale) == pytest.approx(largest / 255, rel=1e-5)


@pytest.mark.parametrize("batch", [1, 2])
def test_several_inputs_are_calibrated_on_samples_without_labels(tmp_path, batch):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.out = nn.Embedding(20, 8), nn.Linear(8, 3)

        def forward(self, ids, scale):
            return self.out(self.words(ids).mean(1) * scale)

    torch.manual_seed(0)
    inputs = (
        Input(name="ids", shape=(batch, 6), dtype="int64"),
        Input(name="scale", shape=(batch, 8)),
    )
    path = to_onnx(Two(), inputs, tmp_path / "two.onnx")
    rng = np.random.default_rng(0)
    samples = {
        "ids": rng.integers(0, 20, (12, batch, 6)),
        "scale": rng.uniform(0, 4, (12, batch, 8)).astype("float32"),
    }
    found = quantize_static.apply(
        path, tmp_path / "q.onnx", step(samples=8), Context(inputs, samples=samples)
    )
    assert (found["samples"], found["quantized"]) == (8, 1)
    feed = {name: array[-1] for name, array in samples.items()}
    ours, exact = run_onnx(tmp_path / "q.onnx", feed)[0], run_onnx(path, feed)[0]
    assert relative_error(ours, exact) < 0.1


def test_scales_of_weights_and_of_what_is_added_have_eight_significant_bits(tmp_path):
    class Added(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(16, 8, bias=False)
            self.offset = nn.Parameter(torch.rand(8))
            self.norm = nn.LayerNorm(8)

        def forward(self, x):
            return self.norm(torch.relu(self.linear(x)) + self.offset)

    torch.manual_seed(0)
    inputs = (Input(name="x", shape=(1, 16)),)
    samples = {"x": np.random.default_rng(0).standard_normal((16, 1, 16)).astype("float32")}
    path = to_onnx(Added().eval(), inputs, tmp_path / "m.onnx")
    quantize_static.apply(path, tmp_path / "q.onnx", step(samples=16), Context(inputs, samples=samples))
    graph = onnx.load(tmp_path / "q.onnx").graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    scales = [
        tensors[node.input[1]]
        for node in graph.node
        if node.op_type == "DequantizeLinear"
        and node.input[0] in tensors
        and tensors[node.input[0]].itemsize == 1
    ]
    assert len(scales) >= 3
    assert not any((scale.view("uint32") & 0xFFFF).any() for scale in scales)
    want = run_onnx(path, {"x": samples["x"][0]})[0]
    assert np.abs(run_onnx(tmp_path / "q.onnx", {"x": samples["x"][0]})[0] - want).max() < 0.1


def signs_and_floats(tmp_path, floats):
    """A network of a layer of signs, and others of floats."""
    inputs = (Input(name="x", shape=(1, 4, 8, 8)),)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(4, 32, 3), nn.ReLU(), *floats).eval()
    signs = {"bits": 1, "axis": 0, "places": [["0", "weight"]]}
    binarize.rebuild(module, {"weights": [signs], "inputs": []})
    samples = {"x": np.random.default_rng(0).random((8, 1, 4, 8, 8), dtype=np.float32)}
    return to_onnx(module, inputs, tmp_path / "signs.onnx"), Context(inputs, samples=samples)


@pytest.mark.parametrize("activations", ["uint8", "uint16"])
def test_weights_that_an_earlier_step_has_encoded_stay_so(tmp_path, activations):
    path, context = signs_and_floats(tmp_path, [nn.Conv2d(32, 4, 3)])
    out = tmp_path / "q.onnx"
    metrics = quantize_static.apply(path, out, step(samples=8, activations=activations), context)
    assert metrics["quantized"] == 1
    assert metrics["kept_whole"] == {"node_conv2d": "an earlier step has encoded its weights"}
    kinds = {each.name: each.encoding for each in encoded_constants(onnx.load(out))}
    assert kinds["0.weight.codes"] == "1-bit"
    assert kinds["2.weight_quantized"] == "int8"
    feed = {"x": context.samples["x"][0]}
    assert relative_error(run_onnx(out, feed)[0], run_onnx(path, feed)[0]) < 0.05


def test_a_model_without_weights_to_quantize_is_refused(tmp_path):
    path, context = signs_and_floats(tmp_path, [])
    with pytest.raises(InputError, match="quantize-static would quantize no weight") as caught:
        quantize_static.apply(path, tmp_path / "q.onnx", step(samples=8), context)
    assert caught.value.why == "node_conv2d: an earlier step has encoded its weights"
    assert not (tmp_path / "q.onnx").exists()
