"""What each layer tolerates: on torch modules, on .onnx files, and as a reason to skip layers."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgepack.compression.batches import training_feeds
from edgepack.compression.method import Context
from edgepack.compression.selection import skipped
from edgepack.compression.sensitivity.onnx_level import OnnxSubject
from edgepack.compression.sensitivity.probes import Edit, Probe, pruned, rounded, truncated
from edgepack.compression.sensitivity.scan import EXACT, noise_of, scan, sqnr
from edgepack.compression.sensitivity.torch_level import TorchSubject
from edgepack.errors import InputError
from edgepack.export import to_onnx
from edgepack.onnxfile import canonicalise, save_onnx
from edgepack.spec import Input

PROBES = tuple(
    Probe(kind, setting)
    for kind, setting in (("weights", 8), ("weights", 2), ("activations", 8), ("prune", 0.9), ("rank", 0.25))
)


def test_a_scan_of_the_module_and_of_its_export_agree(teacher, data, inputs, tmp_path):
    context = Context(inputs, data)
    feeds = training_feeds(context, 32)
    module = teacher.state_dict()
    before = {name: value.clone() for name, value in module.items()}
    torch_scan = scan(TorchSubject(teacher, feeds), PROBES, score=lambda outputs: float(outputs[0].shape[1]))
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    file_scan = scan(OnnxSubject(to_onnx(teacher, inputs, tmp_path / "m.onnx"), feeds), PROBES)
    assert [layer.name for layer in torch_scan] == [layer.name for layer in file_scan]
    assert [layer.parameters for layer in torch_scan] == [layer.parameters for layer in file_scan]
    for ours, theirs in zip(torch_scan, file_scan, strict=True):
        many, few, inputs_rounded, zeros, rank = ours.points
        assert many.sqnr > 40 > few.sqnr
        assert inputs_rounded.sqnr > 40
        assert (many.metric, theirs.points[0].metric) == (10.0, None)
        # Batch normalisation is folded in the file: it scales whole channels, which matters to zeros and ranks.
        for number in (0, 1, 2):
            assert theirs.points[number].sqnr == pytest.approx(ours.points[number].sqnr, abs=0.05)
        assert zeros.sqnr < 20 or rank.sqnr > 10


def test_probes_change_weights_as_they_say():
    weight = np.random.default_rng(0).standard_normal((4, 6, 3)).astype(np.float32)
    eight, two = rounded(weight, 8, 0), rounded(weight, 2, 1)
    step = np.abs(weight).max(axis=(1, 2), keepdims=True) / 127
    assert (np.abs(eight - weight) <= step / 2 + 1e-6).all()
    assert all(len(np.unique(two[:, i])) <= 3 for i in range(6))
    assert (pruned(weight, 0.75) == 0).sum() == 54
    assert np.array_equal(rounded(np.zeros((2, 2), np.float32), 4, 0), np.zeros((2, 2)))
    half = truncated(weight, 0.5, 0)
    assert np.linalg.matrix_rank(half.reshape(4, -1), tol=1e-4) == 2
    assert np.linalg.matrix_rank(np.moveaxis(truncated(weight, 0.34, 1), 1, 0).reshape(6, -1), tol=1e-4) == 2
    for changed in (eight, two, half):
        assert (changed.shape, changed.dtype) == (weight.shape, weight.dtype)


def test_the_ratio_of_signal_to_noise():
    signal = [np.array([3.0, 4.0]), np.array([10.0])]
    assert sqnr(signal, signal) == EXACT
    assert sqnr(signal, [np.array([3.0, 4.5]), np.array([11.0])]) == pytest.approx(20)
    assert sqnr([np.zeros(2)], [np.ones(2)]) == 0
    assert sqnr([np.array([1, 2])], [np.array([2, 2])]) == EXACT, "class numbers have no noise"
    assert sqnr([np.array([1.0, np.inf])], [np.array([1.0, np.inf])]) == EXACT
    assert sqnr(signal, [np.array([np.nan, 4.0]), np.array([10.0])]) == -EXACT


class TwoInputs(nn.Module):
    """Two inputs and outputs, an embedding, a recurrent layer, a transposed convolution, tied weights."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(20, 8)
        self.gru = nn.GRU(8, 6, batch_first=True)
        self.up = nn.ConvTranspose1d(6, 5, 2, 2)
        self.tied, self.tied_too = nn.Linear(5, 5), nn.Linear(5, 5)
        self.tied_too.weight = self.tied.weight
        self.scale = nn.Parameter(torch.ones(5))

    def forward(self, ids, shift):
        states, last = self.gru(self.words(ids) + shift)
        y = self.up(states.transpose(1, 2)).transpose(1, 2)
        return self.tied_too(torch.tanh(self.tied(y))) * self.scale, last


def test_any_model_with_several_inputs_and_outputs_can_be_scanned(tmp_path):
    given = (Input(name="ids", shape=(1, 4), dtype="int64"), Input(name="shift", shape=(1, 4, 8)))
    rng = np.random.default_rng(0)
    samples = {
        "ids": rng.integers(20, size=(6, 1, 4)),
        "shift": rng.standard_normal((6, 1, 4, 8), np.float32),
    }
    feeds = training_feeds(Context(given, samples=samples), 4)
    assert [(feed["ids"].shape, feed["shift"].shape) for feed in feeds] == [((1, 4), (1, 4, 8))] * 4
    module = TwoInputs().eval()
    found = {layer.name: layer for layer in scan(TorchSubject(module, feeds), PROBES)}
    assert {name: layer.operator for name, layer in found.items()} == {
        "words": "Embedding", "gru": "GRU", "up": "ConvTranspose1d", "tied": "Linear", "tied_too": "Linear",
    }  # fmt: skip
    path = to_onnx(module, given, tmp_path / "two.onnx")
    subject = OnnxSubject(path, feeds)
    in_file = {layer.name: layer for layer in scan(subject, PROBES)}
    assert sorted(layer.operator for layer in in_file.values()) == [
        "ConvTranspose",
        "GRU",
        "Gather",
        "MatMul",
    ]
    assert len(subject.nodes(next(n for n, layer in in_file.items() if layer.operator == "MatMul"))) == 2, (
        "tied"
    )
    for layer in (*found.values(), *in_file.values()):
        assert layer.points[0].sqnr > 25
        assert layer.points[1].sqnr < layer.points[0].sqnr
        assert layer.points[2].sqnr > 25


def test_without_samples_inputs_are_made_up_and_data_is_drawn_from_the_training_split(data, inputs):
    made_up = training_feeds(Context(inputs), 7)
    assert len(made_up) == 4
    assert made_up[0]["image"].shape == (1, 1, 8, 8)
    drawn = training_feeds(Context(inputs, data), 10, batch=4)
    assert [len(feed["image"]) for feed in drawn] == [4, 4]
    training = {x.tobytes() for x in data.x_train}
    assert all(row.tobytes() in training for feed in drawn for row in feed["image"])
    again = training_feeds(Context(inputs, data), 10, batch=4)
    assert all(np.array_equal(a["image"], b["image"]) for a, b in zip(drawn, again, strict=True))


def test_half_precision_and_encoded_weights_of_a_file(tmp_path):
    weight = np.eye(3, dtype=np.float16)
    codes = np.eye(3, dtype=np.int8)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "fc.weight"], ["y"], "fc"),
            helper.make_node("DequantizeLinear", ["codes", "scale"], ["decoded"], "decode"),
            helper.make_node("MatMul", ["y", "decoded"], ["z"], "encoded"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [2, 3])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT16, [2, 3])],
        [
            numpy_helper.from_array(weight, "fc.weight"),
            numpy_helper.from_array(codes, "codes"),
            numpy_helper.from_array(np.float16(1), "scale"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    save_onnx(canonicalise(model), tmp_path / "half.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "half.onnx"))
    feeds = [{"x": np.ones((2, 3), np.float16)}]
    (layer,) = scan(
        OnnxSubject(tmp_path / "half.onnx", feeds), (Probe("prune", 0.9), Probe("activations", 4))
    )
    assert layer.name == "fc"
    assert layer.points[0].sqnr < 10
    assert layer.points[1].sqnr == EXACT, "an input in half precision is not rounded further"


def test_layers_are_skipped_by_patterns_by_a_limit_or_as_outliers():
    names = {name: (name,) for name in "abcd"}
    measured = {"a": 40.0, "b": 38.0, "c": 12.0, "d": 41.0}

    def skip(rule):
        return skipped(rule, names, lambda: measured, kind="layer", where="skip")

    assert skip(("a", "c")) == {"a": "skipped by the recipe", "c": "skipped by the recipe"}
    assert list(skip("auto")) == ["c"]
    assert (
        skip("auto")["c"]
        == "sensitive: 12.0 dB at the outputs if it alone is compressed, the limit is 29.0 dB"
    )
    assert list(skip(39.0)) == ["b", "c"]
    assert skipped("auto", {}, dict, kind="layer", where="skip") == {}
    with pytest.raises(InputError, match="no layer matches 'e'"):
        skip(("e",))


def test_noise_of_one_change_per_layer(teacher, data, inputs):
    subject = TorchSubject(teacher, training_feeds(Context(inputs, data), 16, batch=16))
    edits = {name: Edit(lambda weight, _axis: weight * 0.9) for name in subject.layers}
    edits["classifier"] = Edit(lambda weight, axis: rounded(weight, 8, axis), activation_bits=8)
    found = noise_of(subject, edits)
    assert found["classifier"] > 40
    assert all(value < 40 for name, value in found.items() if name != "classifier")
