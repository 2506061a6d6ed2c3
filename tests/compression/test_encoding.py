"""What all methods that store weights as codes promise: small files, the same outputs, and models of any kind."""

import copy

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional

from edgepack.compression.method import Context
from edgepack.compression.registry import METHODS
from edgepack.errors import InputError
from edgepack.export import parity, to_onnx
from edgepack.export.bundled import module_weights
from edgepack.onnxfile.counting import count
from edgepack.onnxfile.encodings import encoded_constants
from edgepack.spec import Input, Train
from edgepack.torchnet.checkpoint import Change, Structure, restore, save
from edgepack.torchnet.encodable import encodable_weights, forms
from edgepack.torchnet.layers import count_module, example_inputs
from edgepack.weightfile.estimate import estimated_sizes

ENCODINGS = {
    "cluster": "codebook",
    "product-quantize": "vector-codebook",
    "hash-weights": "hashed",
    "pulse-quantize": "pulses",
}


def applied(name, module, context, **options):
    method = METHODS[name]
    return method.apply(module, method.spec.model_validate({"method": name, **options}), context)


class Text(nn.Module):
    """An embedding that is also the output's weight, recurrent layers in both directions, a layer used twice."""

    inputs = (Input(name="tokens", shape=(1, 6), dtype="int64"), Input(name="start", shape=(1, 16)))

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(40, 16)
        self.lstm = nn.LSTM(16, 8, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(16, 16, batch_first=True)
        self.twice = nn.Linear(16, 16)
        self.head = nn.Linear(16, 40, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens, start):
        hidden, _ = self.lstm(self.embedding(tokens) + start[:, None])
        hidden, last = self.gru(hidden)
        return self.head(self.twice(torch.relu(self.twice(hidden)))), last


class Image(nn.Module):
    """Grouped, transposed and tiny convolutions, and a weight that is used by a function."""

    inputs = (Input(name="image", shape=(1, 3, 12, 12)),)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.grouped = nn.Conv2d(16, 32, 3, groups=4, bias=False)
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.tiny = nn.Conv2d(16, 1, 1)
        self.weight = nn.Parameter(torch.randn(24, 400) / 20)

    def forward(self, image):
        hidden = self.grouped(torch.relu(self.norm(self.stem(image))))
        hidden = functional.max_pool2d(self.tiny(self.up(hidden)), 1)
        return functional.linear(hidden.flatten(1), self.weight)


def random_inputs(specs):
    random = np.random.default_rng(0)
    return [
        random.integers(0, 40, spec.shape)
        if spec.dtype == "int64"
        else random.standard_normal(spec.shape).astype("float32")
        for spec in specs
    ]


def outputs(module, values):
    with torch.no_grad():
        found = module(*map(torch.from_numpy, values))
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("net", [Text, Image])
@pytest.mark.parametrize("name", ENCODINGS)
def test_any_net_is_encoded_exported_and_restored(name, net, tmp_path):
    module = net().eval()
    before = copy.deepcopy(module.state_dict())
    context = Context(net.inputs)
    result = applied(name, module, context)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    encoded = result.metrics["layers"]
    assert all(after < whole for whole, after in encoded.values())
    assert set(encoded) | set(result.metrics["kept_whole"]) == {w.name for w in encodable_weights(module)[0]}
    assert set(forms(result.module)) == set(encoded)
    examples = example_inputs(net.inputs)
    counted, source = count_module(result.module, examples), count_module(module, examples)
    assert (counted.parameters, counted.macs) == (source.parameters, source.macs)

    values = random_inputs(net.inputs)
    path = to_onnx(result.module, net.inputs, tmp_path / "m.onnx")
    assert parity(result.module, path, values) < 1e-5
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(path).graph.node}
    counts = count(path)
    assert counts.parameters >= sum(whole for whole, _ in encoded.values()) / 4
    others = {"dense", "sparse-blocks"}  # weights that the step skipped
    found = [each for each in encoded_constants(onnx.load(path)) if each.encoding not in others]
    assert {each.encoding for each in found} == {ENCODINGS[name]}
    assert len(found) >= len(encoded)
    unpacking = 100  # bytes of shapes, shifts, and the factors of hashes
    assert sum(each.stored_bytes for each in found) <= result.metrics["weight_bytes"][1] + unpacking * len(
        found
    )

    about, memory = estimated_sizes(module_weights(result.module, examples))
    exported, memory_exported = estimated_sizes(counts.weights)
    assert about == pytest.approx(exported, rel=0.03, abs=200)  # the nets are small
    assert memory == pytest.approx(memory_exported, rel=0.01)

    change = Change(name, result.change, Structure.of(module))
    save(result.module, tmp_path / "m.safetensors", [change])
    restored = restore(net(), tmp_path / "m.safetensors", {name: METHODS[name].rebuild}).module
    for got, want in zip(outputs(restored, values), outputs(result.module, values), strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("name", ENCODINGS)
def test_mostly_zero_weights_are_counted_as_the_file_stores_them(name, tmp_path):
    module = Image().eval()
    with torch.no_grad():
        for _, weight in module.named_parameters():
            weight[torch.rand_like(weight) < 0.9] = 0
    result = applied(name, module, Context(Image.inputs)).module
    about, memory = estimated_sizes(module_weights(result, example_inputs(Image.inputs)))
    exported, memory_exported = estimated_sizes(
        count(to_onnx(result, Image.inputs, tmp_path / "m.onnx")).weights
    )
    assert about == pytest.approx(exported, rel=0.05, abs=300)
    assert memory == pytest.approx(memory_exported, rel=0.01)


def test_tied_weights_stay_tied_and_are_stored_once(tmp_path):
    module = Text().eval()
    result = applied("cluster", module, Context(Text.inputs)).module
    assert result.head.parametrizations.weight.original is result.embedding.parametrizations.weight.original
    assert torch.equal(result.head.weight, result.embedding.weight)
    path = to_onnx(result, Text.inputs, tmp_path / "m.onnx")
    codes = [tensor for tensor in onnx.load(path).graph.initializer if list(tensor.dims) == [40 * 16 // 2, 1]]
    assert len(codes) == 1


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_step_is_deterministic_trains_what_decodes_and_can_be_copied(name, teacher, data, inputs, tmp_path):
    context = Context(inputs, data)
    skip = ("residual.*", "pointwise.0")
    files = []
    for number in range(2):
        result = applied(name, teacher, context, skip=skip, fine_tune=Train(epochs=1).model_dump())
        copied = copy.deepcopy(result.module)
        save(copied, tmp_path / f"{number}.safetensors", [Change(name, result.change)])
        files.append((tmp_path / f"{number}.safetensors").read_bytes())
    assert files[0] == files[1]
    assert result.metrics["kept_whole"]["pointwise.0"] == "skipped by the recipe"
    plain = applied(name, teacher, context, skip=skip)
    assert plain.metrics["score"].keys() == {"before", "encoded"}
    assert not torch.equal(plain.module.last[0].weight, result.module.last[0].weight)
    assert result.metrics["score"]["fine_tune"] > 0.2


@pytest.mark.parametrize("name", ENCODINGS)
def test_pruned_weights_stay_zero_through_training_and_export(name, teacher, data, inputs, tmp_path):
    with torch.no_grad():
        for each in encodable_weights(teacher)[0]:
            weight = each.of(teacher)
            weight[::4] = 0
            weight[weight.abs() < weight.abs().quantile(0.6)] = 0
    zeros = {each.name: each.of(teacher) == 0 for each in encodable_weights(teacher)[0]}
    result = applied(
        name, teacher, Context(inputs, data), skip=("residual.*",), fine_tune=Train(epochs=1).model_dump()
    )
    assert result.metrics["zeros"][1] >= result.metrics["zeros"][0] > 0
    weights = {weight: result.module.get_submodule(weight).weight for weight in result.metrics["layers"]}
    assert "last.0" in weights
    for weight, value in weights.items():
        assert not value[zeros[weight]].any()
    path = to_onnx(result.module, inputs, tmp_path / "m.onnx")
    assert parity(result.module, path, random_inputs(inputs)) < 1e-5
    others = {"dense", "sparse-blocks"}  # weights that the step skipped
    found = [each for each in encoded_constants(onnx.load(path)) if each.encoding not in others]
    assert {each.encoding for each in found} == {ENCODINGS[name]}
    unpacking = sum(128 + 4 * each.shape[0] for each in found)  # with the factors of a folded batch norm
    assert sum(each.stored_bytes for each in found) <= result.metrics["weight_bytes"][1] + unpacking


def test_what_becomes_no_smaller_is_refused():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 2)).eval()
    for name in ENCODINGS:
        with pytest.raises(InputError, match="would make no weight of Sequential smaller") as caught:
            applied(name, net, Context((Input(name="x", shape=(1, 3)),)))
        assert "1: it" in caught.value.why


def test_a_pattern_that_matches_nothing_is_refused(teacher, inputs):
    with pytest.raises(InputError, match=r"no layer or weight matches 'last\.1'"):
        applied("cluster", teacher, Context(inputs), skip=("last.1",))


def test_weights_that_are_computed_already_are_left_alone(teacher, inputs):
    nn.utils.parametrizations.weight_norm(teacher.last[0])
    result = applied("cluster", teacher, Context(inputs))
    assert result.metrics["kept_whole"] == {"last.0": "it is computed by _WeightNorm"}


def test_a_layer_is_encoded_in_two_steps_and_the_first_result_is_not_changed():
    """torch adds the second weight to the class of the layer, which its copies share."""
    x = (Input(name="x", shape=(1, 5, 32)),)
    torch.manual_seed(0)
    net = nn.Sequential(nn.LSTM(32, 32, batch_first=True)).eval()
    first = applied("cluster", net, Context(x), skip=("0.weight_hh_l0",)).module
    want = outputs(first[0], random_inputs(x))[0]
    second = applied("cluster", first, Context(x)).module
    assert list(forms(second)) == ["0.weight_ih_l0", "0.weight_hh_l0"]
    assert list(forms(first)) == ["0.weight_ih_l0"]
    assert torch.equal(outputs(first[0], random_inputs(x))[0], want)


def test_frozen_weights_stay_frozen(teacher, data, inputs):
    teacher.last[0].weight.requires_grad_(False)
    plain = applied("cluster", teacher, Context(inputs, data))
    tuned = applied("cluster", teacher, Context(inputs, data), fine_tune=Train(epochs=1).model_dump())
    assert torch.equal(plain.module.last[0].weight, tuned.module.last[0].weight)
    assert not torch.equal(plain.module.stem[0].weight, tuned.module.stem[0].weight)
