"""Binary and ternary weights: packed in the file, the same results, little loss of accuracy."""

import numpy as np
import onnx
import pytest
import torch
from trained_nets import Attention, Odd, Perceptron, case, restored

from edgepack.compression import Context
from edgepack.compression.binarize import METHOD, Binarize, apply
from edgepack.compression.ordering import misplaced
from edgepack.compression.registry import METHODS
from edgepack.compression.train_quantized import TrainQuantized
from edgepack.compression.train_quantized import apply as quantize
from edgepack.errors import InputError
from edgepack.export import parity, to_onnx
from edgepack.onnxfile.encodings import encoded_constants
from edgepack.spec import Train
from edgepack.torchnet.outputs import accuracy, to_tensor

SHORT = Train(epochs=1)


def step(**options):
    return Binarize(method="binarize", **{"fine_tune": SHORT, **options})


def constants(module, inputs, path):
    return {each.name: each for each in encoded_constants(onnx.load(to_onnx(module, inputs, path)))}


def test_signs_keep_the_accuracy_and_are_stored_as_bits(teacher, data, inputs, tmp_path):
    trained = apply(teacher, step(fine_tune=Train(epochs=4, lr=2e-3)), Context(inputs, data))
    before = accuracy(teacher, data.x_test, data.y_test)
    assert accuracy(trained.module, data.x_test, data.y_test) > before - 0.04
    dense, stored = trained.metrics["weight_bytes"]
    assert stored < dense / 20
    assert set(trained.metrics["kept_whole"]) == {"stem.0", "classifier"}
    path = tmp_path / "m.onnx"
    found = constants(trained.module, inputs, path)
    bits = [each for each in found.values() if each.encoding == "1-bit"]
    assert len(bits) == 5
    assert sum(each.stored_bytes for each in bits) < 9_000
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(path).graph.node}
    assert max(parity(trained.module, path, [data.x_test[i : i + 1]]) for i in range(4)) < 1e-5


@pytest.mark.parametrize("options", [{}, {"weights": "ternary", "activations": "binary", "first_last": True}])
@pytest.mark.parametrize("kind", [Perceptron, Odd, Attention])
def test_nets_as_users_bring_them(kind, options, tmp_path):
    module, x, context = case(kind)
    if not options and kind is Perceptron:
        options = {"activations": "binary"}
    result = apply(module, step(**options), context)
    back = restored(module, result, METHOD, tmp_path / "m.safetensors")
    assert torch.equal(back(to_tensor(x)), result.module(to_tensor(x)))
    if bool(options) == (kind is not Odd):  # one export of each net
        path = to_onnx(result.module, context.inputs, tmp_path / "m.onnx")
        # An activation at its threshold may fall on the other side.
        errors = [parity(result.module, path, [x[i : i + 1]], limit=None) for i in range(8)]
        assert np.median(errors) < 1e-4


def test_ternary_weights_have_two_bits_and_keep_pruned_zeros(tmp_path):
    module, _, context = case(Perceptron)
    with torch.no_grad():
        module.net[3].weight[:, ::2] = 0
    trained = apply(module, step(weights="ternary", first_last=True), context).module
    assert not trained.net[3].weight[:, ::2].any()
    levels = trained.net[0].parametrizations.weight[0].levels(trained.net[0].parametrizations.weight.original)
    assert set(levels.unique().tolist()) == {-1.0, 0.0, 1.0}


def test_signs_of_pruned_weights_are_refused_at_check():
    class Pruned:
        leaves = frozenset({"sparse"})

    methods = {**METHODS, "prune-weights": Pruned()}
    pruned = type("Step", (), {"method": "prune-weights"})()
    found = list(misplaced([pruned, step()], methods))
    assert found[0][0] == 1
    assert "use weights: ternary" in found[0][1]
    assert not list(misplaced([pruned, step(weights="ternary")], methods))
    assert [number for number, _ in misplaced([step(), step()], METHODS)] == [1]


def test_the_outer_layers_may_be_quantized_before(tmp_path):
    module, _, context = case(Perceptron)
    first = quantize(
        module, TrainQuantized(method="train-quantized", skip=("net.3",), fine_tune=SHORT), context
    )
    result = apply(first.module, step(), context)
    assert list(result.metrics["layers"]) == ["net.3"]
    assert result.metrics["kept_whole"]["net.0"] == "an earlier step has encoded it"
    found = constants(result.module, context.inputs, tmp_path / "m.onnx")
    assert found["net.0.weight"].encoding == found["net.6.weight"].encoding == "int8"
    assert "1-bit" in {each.encoding for each in found.values()}


def test_equal_seeds_give_equal_weights_and_the_argument_is_unchanged():
    module, _, context = case(Perceptron)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    first, second = (apply(module, step(activations="binary"), context).module.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_a_net_of_outer_layers_only_is_refused():
    _, _, context = case(Perceptron)
    with pytest.raises(InputError, match="has no weights for binarize") as caught:
        apply(torch.nn.Sequential(torch.nn.Linear(16, 4)), step(), context)
    assert "it is the first or the last layer" in caught.value.why
