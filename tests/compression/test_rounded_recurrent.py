"""Recurrent layers with rounded weights: integers or bits in the file, the same results, no loss of accuracy."""

import copy

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from trained_nets import restored

from edgepack.compression import Context
from edgepack.compression.registry import METHODS
from edgepack.data import Splits
from edgepack.errors import InputError
from edgepack.export import parity, run_onnx, to_onnx
from edgepack.export.bundled import module_weights
from edgepack.onnxfile.counting import count
from edgepack.onnxfile.encodings import encoded_constants
from edgepack.spec import Input, Train
from edgepack.torchnet.checkpoint import Change, Structure, restore, save
from edgepack.torchnet.layers import count_module, example_inputs
from edgepack.torchnet.outputs import to_tensor
from edgepack.weightfile.estimate import estimated_sizes

SHORT = {"epochs": 1}
WEIGHT_ONLY = "input and states of a recurrent layer stay float"


class Sequences(nn.Module):
    """Token ids through an LSTM of two layers in both directions, a GRU without biases, and single steps."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(8, 12)
        self.lstm = nn.LSTM(12, 16, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(32, 16, bias=False, batch_first=True)
        self.cell = nn.LSTMCell(16, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        states, _ = self.lstm(self.words(x))
        self.gru.flatten_parameters()
        states, _ = self.gru(states)
        state = self.cell(states[:, 0], (states[:, 1], states[:, 2]))
        return self.head(self.cell(states[:, 3], state)[0])


class Classifier(nn.Module):
    """Token ids to classes, from the last state of one layer."""

    def __init__(self, kind=nn.GRU, width=24):
        super().__init__()
        self.words = nn.Embedding(8, 16)
        self.layer = kind(16, width, batch_first=True)
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        return self.head(self.layer(self.words(x))[0][:, -1])


def context_of(samples=64, length=6):
    """Sequences of tokens; the first of them says the class."""
    x = np.random.default_rng(0).integers(0, 8, (samples, length))
    y, half = x[:, 0] % 4, samples // 2
    splits = Splits(x[:half], y[:half], x[half:], y[half:])
    return Context((Input(name="x", shape=(1, length), dtype="int64"),), splits)


def made(kind, *args):
    torch.manual_seed(0)
    return kind(*args).eval()


def applied(name, module, context, **options):
    method = METHODS[name]
    options = {"fine_tune": SHORT, **options}
    step = method.spec.model_validate({"method": name, **options})
    return method.apply(module, step, context)


def constants(path):
    return {each.name: each for each in encoded_constants(onnx.load(path))}


def values(module, x):
    with torch.no_grad():
        return module(to_tensor(x))


def test_four_bit_layers_of_all_kinds_are_exported_counted_and_restored(tmp_path):
    module, context = made(Sequences), context_of()
    before = copy.deepcopy(module.state_dict())
    result = applied("train-quantized", module, context, weights=4, activations="float")
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    bits = {name: after for name, (_, after) in result.metrics["layers"].items()}
    ends = ("l0", "l0_reverse", "l1", "l1_reverse")
    matrices = {f"lstm.weight_{which}_{end}": 4 for which in ("ih", "hh") for end in ends}
    matrices |= {f"{name}_l0": 4 for name in ("gru.weight_ih", "gru.weight_hh")}
    assert bits == {"words": 8, "head": 8, "cell.weight_ih": 4, "cell.weight_hh": 4, **matrices}
    assert result.metrics["kept_whole"] == {}
    dense, stored = result.metrics["weight_bytes"]
    assert stored < dense / 5

    path = to_onnx(result.module, context.inputs, tmp_path / "m.onnx")
    x = context.data.x_test
    assert max(parity(result.module, path, [x[i : i + 1]]) for i in range(4)) < 1e-5
    found = constants(path)
    assert all(found[name].encoding == "int4" for name in matrices)
    encoded = [each for each in found.values() if each.encoding != "dense"]
    assert sum(each.stored_bytes for each in encoded) == stored
    examples, counts = example_inputs(context.inputs), count(path)
    assert counts.macs == count_module(module, examples).macs
    about, memory = estimated_sizes(module_weights(result.module, examples))
    exported, memory_exported = estimated_sizes(counts.weights)
    assert about == pytest.approx(exported, rel=0.03, abs=200)
    assert memory == pytest.approx(memory_exported, rel=0.01)

    back = restored(module, result, METHODS["train-quantized"], tmp_path / "m.safetensors")
    assert torch.equal(values(back, x), values(result.module, x))
    assert torch.equal(values(copy.deepcopy(back), x), values(back, x))


@pytest.mark.parametrize(
    ("name", "options", "encoding"),
    [
        ("train-quantized", {"weights": 2, "first_last": 2}, None),
        ("binarize", {"weights": "binary", "activations": "binary"}, "1-bit"),
        ("binarize", {"weights": "ternary"}, None),
    ],
)
def test_few_bits_are_packed(name, options, encoding, tmp_path):
    module, context = made(Classifier), context_of()
    result = applied(name, module, context, **options)
    assert set(result.metrics["layers"]) - {"words", "head"} == {"layer.weight_ih_l0", "layer.weight_hh_l0"}
    back = restored(module, result, METHODS[name], tmp_path / "m.safetensors")
    x = context.data.x_test
    assert torch.equal(values(back, x), values(result.module, x))
    if encoding is not None:
        path = to_onnx(result.module, context.inputs, tmp_path / "m.onnx")
        found = constants(path)
        packed = [each for each in found.values() if each.encoding == encoding]
        assert len(packed) >= 2
        unpacking = 64 * len(packed)  # bytes of shapes and shifts
        assert sum(each.stored_bytes for each in packed) <= result.metrics["weight_bytes"][1] + unpacking
        errors = [parity(result.module, path, [x[i : i + 1]], limit=None) for i in range(4)]
        assert np.median(errors) < 1e-4  # an activation may round to its neighbour


def test_activations_stay_float_and_it_is_said():
    metrics = applied("train-quantized", made(Sequences), context_of()).metrics
    assert metrics["activations"] == ["head"]
    assert metrics["float_activations"] == dict.fromkeys(("lstm", "gru", "cell"), WEIGHT_ONLY)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_the_task_is_learned_with_four_bits(kind):
    module, context = made(Classifier, kind), context_of(1024, length=4)
    context.train(module, Train(epochs=6, lr=0.01, batch_size=64))
    trained = {"epochs": 4, "lr": 0.005, "batch_size": 64}
    metrics = applied("train-quantized", module, context, weights=4, first_last=4, fine_tune=trained).metrics
    score = metrics["score"]
    assert score["fine_tune"] >= max(score["before"], score["calibrated"])
    assert score["fine_tune"] > 0.7  # of four classes


def test_equal_seeds_give_equal_weights():
    module, context = made(Classifier), context_of()
    first, second = (
        applied("train-quantized", module, context, weights=4).module.state_dict() for _ in range(2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(
        first["layer.parametrizations.weight_hh_l0.original"], module.layer.weight_hh_l0
    )  # it was trained


def test_a_compiled_layer_computes_the_same_from_small_weights(tmp_path):

    from edgepack.config.target import load_target
    from edgepack.lower import compile_model
    from edgepack.lower.host import open_on_host

    module, context = made(Classifier, nn.LSTM, 48), context_of()
    module.layer = made(lambda: nn.LSTM(16, 24, bidirectional=True, batch_first=True))
    result = applied("train-quantized", module, context, weights=4, first_last=4, activations="float")
    path = to_onnx(result.module, context.inputs, tmp_path / "m.onnx")
    built = compile_model(path, load_target("x86-64-v3"), tmp_path / "m.so")
    assert {each.encoding for each in built.constants if each.decoded == "load"} == {"int8"}
    dense, stored = result.metrics["weight_bytes"]
    at_load = [each for each in built.constants if each.decoded == "load"]
    assert sum(each.resident_bytes for each in at_load) > 0.9 * dense
    assert sum(each.stored_bytes for each in at_load) < 1.3 * stored  # entropy coding halves the bytes
    machine = open_on_host(built.path)
    for x in context.data.x_test[:4]:
        (want,) = run_onnx(path, {"x": x[None]})
        np.testing.assert_allclose(machine(x[None])[0], want, atol=1e-5)


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("layer", ["layer.weight_ih_l0", "layer.weight_hh_l0"]),
        ("layer.weight_hh_l0", ["layer.weight_hh_l0"]),
        ("*_ih_*", ["layer.weight_ih_l0"]),
    ],
)
def test_layers_and_single_weights_are_skipped_by_name(pattern, left):
    result = applied("train-quantized", made(Classifier), context_of(), skip=(pattern,))
    assert result.metrics["kept_whole"] == dict.fromkeys(left, "skipped by the recipe")
    assert ("layer" in result.metrics["float_activations"]) == (pattern != "layer")
    with pytest.raises(InputError, match=r"no layer matches 'layer\.weight_hh_l1'"):
        applied("train-quantized", made(Classifier), context_of(), skip=("layer.weight_hh_l1",))


def test_sensitive_weights_are_left_alone():
    metrics = applied("train-quantized", made(Classifier), context_of(), weights=2, skip=20.0).metrics
    assert metrics["kept_whole"]["layer.weight_ih_l0"].startswith("sensitive: ")
    assert {"words", "head"} <= set(metrics["layers"])


def test_a_layer_that_returns_an_output_is_an_outer_one():
    class States(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(8, 16)
            self.layer = nn.GRU(16, 16, batch_first=True)
            self.inner, self.head = nn.Linear(16, 16), nn.Linear(16, 4)

        def forward(self, x):
            states, _ = self.layer(self.words(x))
            return self.head(self.inner(states[:, -1])), states

    context = context_of()
    widths = applied(
        "train-quantized", made(States), context, weights=4, fine_tune={"epochs": 1, "lr": 1e-9}
    ).metrics["layers"]
    assert widths["layer.weight_hh_l0"] == [32, 8]
    assert widths["inner"] == [32, 4]


def test_static_quantization_afterwards_leaves_the_weights_alone(tmp_path):
    """They are sliced and joined in ONNX's order of gates, which must not be rounded once more."""
    module, context = made(Classifier, nn.LSTM), context_of()
    options = {"weights": 4, "activations": "float", "skip": ("head",)}
    trained = applied("train-quantized", module, context, **options).module
    path, out = to_onnx(trained, context.inputs, tmp_path / "m.onnx"), tmp_path / "q.onnx"
    method = METHODS["quantize-static"]
    metrics = method.apply(path, out, method.spec.model_validate({"method": "quantize-static"}), context)
    graph = onnx.load(out).graph
    known = {tensor.name for tensor in graph.initializer} | {""}
    for node in graph.node:
        if known.issuperset(node.input):
            assert node.op_type != "QuantizeLinear"
            known.update(node.output)
    (layer,) = [node for node in graph.node if node.op_type == "LSTM"]
    assert {layer.input[1], layer.input[2]} <= known
    assert metrics["kept_whole"][layer.name] == "an earlier step has encoded its weights"
    assert not [name for name in metrics["kept_whole"] if "Slice" in name]
    assert {"layer.weight_ih_l0": "int4", "head.weight_quantized": "int8"}.items() <= {
        each.name: each.encoding for each in constants(out).values()
    }.items()


def test_a_chain_of_steps_on_recurrent_layers_is_restored_bit_for_bit(tmp_path):
    """Factored input weights, pruned, quantized, and the integers of the quantizers shared."""
    context, x = context_of(), context_of().data.x_test
    module, changes = made(Classifier, nn.LSTM), []
    steps = {
        "low-rank": {"energy": 0.5, "skip": ("head",)},
        "prune-weights": {"ratio": 0.5},
        "train-quantized": {"weights": 4},
        "cluster": {"clusters": 4, "fine_tune": None},
    }
    path = tmp_path / "m.safetensors"
    rebuilders = {name: METHODS[name].rebuild for name in steps}
    for name, options in steps.items():
        found = Structure.of(module)
        result = applied(name, module, context, **options)
        if result.change is not None:
            changes.append(Change(name, result.change, found))
        save(result.module, path, changes)
        back = restore(made(Classifier, nn.LSTM), path, rebuilders).module
        assert torch.equal(values(back, x), values(result.module, x)), name
        module = back
    layer = module.layer.layers[0]
    assert type(layer.parametrizations.weight_hh_l0[0]).__name__ == "SharedLevels"
    assert int((layer.weight_hh_l0 == 0).sum()) >= layer.weight_hh_l0.numel() // 2
    assert len(layer._forward_hooks) == 1
    assert (
        max(parity(module, to_onnx(module, context.inputs, tmp_path / "m.onnx"), [x[:1]]) for _ in "1") < 1e-5
    )
