"""What improves static quantization: asymmetric weights, 16 bits, equalisation, learned rounding, biases, mixed precision."""

import copy
import dataclasses

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from edgepack.compression import quantize_static
from edgepack.compression.method import Context
from edgepack.compression.quantization.equalising import equalise
from edgepack.compression.quantization.ranges import _least_error
from edgepack.compression.quantize_static import QuantizeStatic
from edgepack.config.target import load_target
from edgepack.errors import InputError
from edgepack.export import evaluate, predict, relative_error, run_onnx, to_onnx
from edgepack.lower import compile_model
from edgepack.lower.host import open_on_host
from edgepack.onnxfile import load_onnx
from edgepack.spec import Input

X = (Input(name="x", shape=(1, 3, 8, 8)),)


def step(**options):
    return QuantizeStatic(**{"method": "quantize-static", "samples": 64, **options})


def tensors(path):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def noise(path, exact, x):
    """The share of noise in the outputs for samples ``x``."""
    outputs = predict(exact, x)
    return np.square(predict(path, x) - outputs).sum() / np.square(outputs).sum()


@pytest.fixture
def context(inputs, data):
    return Context(inputs, data)


def test_ranges_of_least_error_leave_out_rare_values():
    values = np.random.default_rng(0).normal(size=100_000)
    counts, edges = np.histogram(values, 4096, range=(-40, 40))
    counts = counts * 100
    counts[-1] += 1
    low, high = _least_error(counts, edges, values.min(), np.float32(40), symmetric=False)
    assert values.min() <= low < -3
    assert 4 < high < 20
    low, high = _least_error(counts, edges, values.min(), np.float32(40), symmetric=True)
    assert -low == high < 20


def test_asymmetric_weights_have_zero_points(model, context, data, tmp_path):
    quantize_static.apply(model, tmp_path / "q.onnx", step(weights="uint8"), context)
    found = tensors(tmp_path / "q.onnx")
    assert found["last.0.weight_quantized"].dtype == np.uint8
    assert found["last.0.weight_zero_point"].shape == (64,)
    assert len(set(found["last.0.weight_zero_point"].tolist())) > 1
    assert evaluate(tmp_path / "q.onnx", data.x_test, data.y_test) > 0.97
    quantize_static.apply(model, tmp_path / "s.onnx", step(), context)
    assert noise(tmp_path / "q.onnx", model, data.x_test[:30]) < noise(
        tmp_path / "s.onnx", model, data.x_test[:30]
    )


class Odd(nn.Module):
    """Grouped, depthwise and transposed convolutions, one without bias, a layer used twice, a flattened linear layer."""

    def __init__(self, activation=nn.ReLU):
        super().__init__()
        self.grouped = nn.Conv2d(3, 12, 3, padding=1, groups=3)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False)
        self.twice = nn.Conv2d(12, 12, 1)
        self.up = nn.ConvTranspose2d(12, 6, 2, stride=2, groups=2)
        self.down = nn.Conv2d(6, 4, 3, stride=4)
        self.hidden, self.out = nn.Linear(64, 16), nn.Linear(16, 5)
        self.act = activation()

    def forward(self, x):
        x = self.act(self.depthwise(self.act(self.grouped(x))))
        x = self.act(self.down(self.up(self.twice(self.act(self.twice(x))))))
        return self.out(self.act(self.hidden(x.flatten(1))))


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    torch.set_num_threads(1)  # small layers: threads cost more than they bring
    torch.manual_seed(0)
    module = Odd().eval()
    with torch.no_grad():  # channels of very different ranges
        for layer in (module.grouped, module.down, module.hidden):
            layer.weight *= torch.logspace(-1.5, 1, len(layer.weight)).reshape(
                -1, *[1] * (layer.weight.ndim - 1)
            )
    return to_onnx(module, X, tmp_path_factory.mktemp("odd") / "odd.onnx")


@pytest.fixture
def samples():
    return {"x": np.random.default_rng(0).standard_normal((64, 1, 3, 8, 8)).astype("float32")}


def test_equalised_layers_compute_the_same(odd, tmp_path, samples):
    model = load_onnx(odd)
    before = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    pairs = equalise(model)
    assert ("grouped.weight", "depthwise.weight") in pairs
    assert ("down.weight", "hidden.weight") in pairs
    assert ("hidden.weight", "out.weight") in pairs
    assert not any("twice.weight" in pair or "up.weight" in pair for pair in pairs)
    onnx.save(model, tmp_path / "e.onnx")
    x = samples["x"][0]
    assert relative_error(run_onnx(tmp_path / "e.onnx", {"x": x})[0], run_onnx(odd, {"x": x})[0]) < 1e-5
    after = tensors(tmp_path / "e.onnx")

    def spread(array):
        ranges = np.abs(array).reshape(len(array), -1).max(1)
        return ranges.max() / ranges.min()

    for name in ("grouped.weight", "down.weight", "hidden.weight"):
        assert spread(after[name]) < 0.5 * spread(before[name])


def test_layers_around_other_activations_are_not_scaled(tmp_path):
    path = to_onnx(Odd(nn.ReLU6).eval(), X, tmp_path / "m.onnx")
    assert equalise(load_onnx(path)) == []


def test_equalisation_helps_weights_with_one_scale(odd, tmp_path, samples):
    x = samples["x"][:30].reshape(30, 3, 8, 8)
    context = Context(X, samples=samples)
    quantize_static.apply(odd, tmp_path / "a.onnx", step(per_channel=False), context)
    metrics = quantize_static.apply(odd, tmp_path / "b.onnx", step(per_channel=False, equalise=True), context)
    assert len(metrics["equalised"]) == 3
    assert noise(tmp_path / "b.onnx", odd, x) < 0.8 * noise(tmp_path / "a.onnx", odd, x)


@pytest.mark.parametrize("rounding", ["learned", "compensated"])
def test_other_roundings_lower_the_error_and_are_repeatable(odd, tmp_path, samples, rounding):
    options = step(rounding=rounding, iterations=150)
    context = Context(X, samples=samples)
    metrics = quantize_static.apply(odd, tmp_path / "a.onnx", options, context)
    quantize_static.apply(odd, tmp_path / "b.onnx", options, context)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    ratios = metrics["output_sqnr_db"]
    assert all(after >= before - 0.1 for before, after in ratios.values())
    assert any(after > before + 0.05 for before, after in ratios.values())
    assert metrics["kept_nearest"] == ["up.weight"]
    quantize_static.apply(odd, tmp_path / "n.onnx", step(), context)
    nearest, other = tensors(tmp_path / "n.onnx"), tensors(tmp_path / "a.onnx")
    differences = [
        np.abs(nearest[name].astype(int) - other[name]).max()
        for name in nearest
        if name.endswith("weight_quantized")
    ]
    assert max(differences) >= 1
    assert rounding == "compensated" or max(differences) == 1


def test_corrected_biases_restore_the_means_of_the_outputs(tmp_path, samples):
    torch.manual_seed(1)
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 24), nn.Linear(24, 4)).eval()
    path = to_onnx(module, X, tmp_path / "m.onnx")
    shifted = {"x": samples["x"] + 2}  # a mean that rounding errors of weights move
    context = Context(X, samples=shifted)
    options = step(per_channel=False, activations="uint16")
    quantize_static.apply(path, tmp_path / "a.onnx", options, context)
    metrics = quantize_static.apply(
        path, tmp_path / "b.onnx", options.model_copy(update={"correct_bias": True}), context
    )
    assert metrics["corrected"] == ["1.weight", "2.weight"]
    x = shifted["x"].reshape(64, 3, 8, 8)
    exact = predict(path, x).mean(0)
    errors = [np.abs(predict(tmp_path / name, x).mean(0) - exact).max() for name in ("a.onnx", "b.onnx")]
    assert errors[1] < 0.2 * errors[0]


@pytest.mark.parametrize("activations", ["uint16", "int16"])
def test_activations_of_16_bits_are_finer_and_compiled(odd, tmp_path, samples, activations):

    context = Context(X, samples=samples)
    quantize_static.apply(odd, tmp_path / "q.onnx", step(activations=activations), context)
    assert {
        tensor.dtype.name for name, tensor in tensors(tmp_path / "q.onnx").items() if name == "x_zero_point"
    } == {activations}
    quantize_static.apply(odd, tmp_path / "e.onnx", step(), context)
    x = samples["x"][:20].reshape(20, 3, 8, 8)
    assert noise(tmp_path / "q.onnx", odd, x) < noise(tmp_path / "e.onnx", odd, x)
    result = compile_model(tmp_path / "q.onnx", load_target("x86-64-v3"), tmp_path / "m.so")
    machine = open_on_host(result.path)
    got = machine(samples["x"][0])[0]
    assert relative_error(got, run_onnx(tmp_path / "q.onnx", {"x": samples["x"][0]})[0]) < 1e-3


@pytest.mark.parametrize("precision", ["int16", "fp16", "fp32"])
def test_sensitive_layers_are_kept_until_the_noise_is_low(odd, tmp_path, samples, precision):
    context = Context(X, samples=samples)
    options = {"drop": 3e-4, "precisions": (precision, "fp32")}
    metrics = quantize_static.apply(odd, tmp_path / "q.onnx", step(per_channel=False, mixed=options), context)
    mixed = metrics["mixed"]
    first, last = mixed["loss"]
    assert mixed["measure"] == "noise"
    assert first > 3e-4
    assert mixed["within"] == (last <= 3e-4)
    assert mixed["within"]
    assert mixed["precisions"]
    worst = max(
        (name for name, level in mixed["noise_db"].items() if level is not None), key=mixed["noise_db"].get
    )
    assert worst in mixed["precisions"]
    x = samples["x"].reshape(64, 3, 8, 8)
    assert noise(tmp_path / "q.onnx", odd, x) == pytest.approx(last, rel=0.05)
    kinds = {name: tensor.dtype.name for name, tensor in tensors(tmp_path / "q.onnx").items()}
    for name, kind in mixed["precisions"].items():
        stored = {"int16": f"{name}_quantized", "fp16": f"{name}_float16", "fp32": name}[kind]
        assert kinds[stored] == {"int16": "int8", "fp16": "float16", "fp32": "float32"}[kind]


def test_sensitive_layers_are_skipped(odd, tmp_path, samples):
    context = Context(X, samples=samples)
    raised = step(per_channel=False, mixed={"drop": 3e-4, "precisions": ("fp32",)})
    levels = quantize_static.apply(odd, tmp_path / "m.onnx", raised, context)["mixed"]["noise_db"]
    (worst, most), (_, next_most), *_ = sorted(levels.items(), key=lambda level: -level[1])
    options = step(per_channel=False, skip=-(most + next_most) / 2)
    metrics = quantize_static.apply(odd, tmp_path / "q.onnx", options, context)
    assert list(metrics["kept_whole"]) == [worst]
    assert metrics["kept_whole"][worst].startswith("sensitive: ")
    assert worst in tensors(tmp_path / "q.onnx")
    everything = quantize_static.apply(odd, tmp_path / "a.onnx", step(skip="auto"), context)
    assert everything["quantized"] > everything["float"]


def test_mixed_precision_follows_the_metric_on_the_training_split(model, context, data, tmp_path):
    mixed = {"drop": 0.0, "precisions": ("fp32",)}
    metrics = quantize_static.apply(model, tmp_path / "q.onnx", step(mixed=mixed), context)["mixed"]
    assert metrics["measure"] == "accuracy"
    assert metrics["within"]
    blind = dataclasses.replace(data, y_test=np.zeros_like(data.y_test), x_test=data.x_test * 0)
    quantize_static.apply(
        model, tmp_path / "b.onnx", step(mixed=mixed), dataclasses.replace(context, data=blind)
    )
    assert (tmp_path / "q.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_without_samples_inputs_are_made_from_batch_normalisation(model, data, inputs, teacher, tmp_path):
    context = Context(inputs, teacher=lambda: copy.deepcopy(teacher))
    options = step(data_free=True, samples=32)
    metrics = quantize_static.apply(model, tmp_path / "q.onnx", options, context)
    assert metrics["calibrated_on"] == "batch normalisation statistics"
    assert metrics["samples"] == 32
    assert evaluate(tmp_path / "q.onnx", data.x_test, data.y_test) > 0.96
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    with pytest.raises(InputError, match="has no batch normalisation with statistics"):
        quantize_static.apply(model, tmp_path / "n.onnx", options, Context(inputs, teacher=nn.Flatten))
    with pytest.raises(InputError, match="needs a torch model"):
        quantize_static.apply(model, tmp_path / "n.onnx", options, Context(inputs))


@pytest.mark.parametrize("activations", ["uint8", "uint16"])
def test_weights_of_recurrent_layers_and_embeddings_have_8_bits(tmp_path, activations):
    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(40, 16)
            self.lstm = nn.LSTM(16, 24, batch_first=True)
            self.out = nn.Linear(24, 3)

        def forward(self, ids):
            return self.out(self.lstm(self.words(ids))[0][:, -1])

    inputs = (Input(name="ids", shape=(1, 7), dtype="int64"),)
    torch.manual_seed(0)
    path = to_onnx(Text().eval(), inputs, tmp_path / "m.onnx")
    samples = {"ids": np.random.default_rng(0).integers(0, 40, (16, 1, 7))}
    options = step(samples=16, activations=activations)
    metrics = quantize_static.apply(path, tmp_path / "q.onnx", options, Context(inputs, samples=samples))
    graph = onnx.load(tmp_path / "q.onnx").graph
    (layer,) = [node for node in graph.node if node.op_type == "LSTM"]
    decoded = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    kinds = tensors(tmp_path / "q.onnx")
    assert {kinds[decoded[name].input[0]].dtype.name for name in layer.input[1:3]} == {"int8"}
    assert kinds["words.weight_quantized"].dtype.name == "uint8"
    assert metrics["size"][0] > 1.8 * metrics["size"][1]
    feed = {"ids": samples["ids"][0]}
    assert relative_error(run_onnx(tmp_path / "q.onnx", feed)[0], run_onnx(path, feed)[0]) < 0.05
