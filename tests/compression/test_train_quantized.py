"""Quantization-aware training: integers in the file, the same results, no loss of accuracy."""

import numpy as np
import onnx
import pytest
import torch
from trained_nets import Attention, Odd, Perceptron, case, restored

from edgepack.compression import Context
from edgepack.compression.ordering import misplaced
from edgepack.compression.registry import METHODS
from edgepack.compression.train_quantized import METHOD, TrainQuantized, apply
from edgepack.errors import InputError
from edgepack.export import parity, to_onnx
from edgepack.lower.host import open_on_host
from edgepack.onnxfile.encodings import encoded_constants
from edgepack.spec import Train
from edgepack.torchnet.outputs import accuracy, to_tensor

SHORT = Train(epochs=1)


def step(**options):
    return TrainQuantized(method="train-quantized", **{"fine_tune": SHORT, **options})


@pytest.fixture(scope="module")
def four_bits(_trained, data):
    from edgepack.spec import Input

    inputs = (Input(name="image", shape=(1, 1, 8, 8)),)
    return apply(_trained[0], step(weights=4, fine_tune=Train(epochs=2)), Context(inputs, data))


def test_four_bit_weights_keep_the_accuracy(teacher, data, four_bits):
    before = accuracy(teacher, data.x_test, data.y_test)
    assert accuracy(four_bits.module, data.x_test, data.y_test) > before - 0.02
    bits = {name: after for name, (_, after) in four_bits.metrics["layers"].items()}
    assert bits["stem.0"] == bits["classifier"] == 8
    assert bits["residual.first.0"] == bits["depthwise.0"] == 4
    dense, stored = four_bits.metrics["weight_bytes"]
    assert stored < dense / 7
    assert set(four_bits.metrics["score"]) == {"before", "calibrated", "fine_tune"}


def test_the_file_holds_integers_and_computes_the_same(four_bits, data, inputs, tmp_path):
    path = to_onnx(four_bits.module, inputs, tmp_path / "m.onnx")
    model = onnx.load(path)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    constants = {each.name: each for each in encoded_constants(model)}
    assert constants["last.0.weight"].encoding == "int4"
    assert constants["stem.0.weight"].encoding == "int8"
    floats = [each for each in constants.values() if each.encoding == "dense" and len(each.shape) > 1]
    assert not floats
    assert path.stat().st_size < 45_000
    errors = [parity(four_bits.module, path, [data.x_test[i : i + 1]], limit=None) for i in range(40)]
    assert np.median(errors) < 1e-4
    assert max(errors) < 0.03  # an activation may round to the next of its 255 steps


def test_it_is_lowered_as_onnxruntime_runs_it(four_bits, data, inputs, tmp_path):

    from edgepack.config.target import load_target
    from edgepack.export import run_onnx
    from edgepack.lower import compile_model

    path = to_onnx(four_bits.module, inputs, tmp_path / "m.onnx")
    built = compile_model(path, load_target("x86-64-v3"), tmp_path / "m.so")
    machine = open_on_host(built.path)
    for x in data.x_test[:4]:
        (want,) = run_onnx(path, {"image": x[None]})
        got = machine(x[None])[0]
        # A sum in another order may move an activation by one of its 255 steps.
        assert np.abs(got - want).max() <= 0.03 * np.abs(want).max()


@pytest.mark.parametrize("kind", [Perceptron, Odd, Attention])
def test_nets_as_users_bring_them(kind, tmp_path):
    module, x, context = case(kind)
    result = apply(module, step(weights=4), context)
    path = to_onnx(result.module, context.inputs, tmp_path / "m.onnx")
    errors = [parity(result.module, path, [x[i : i + 1]], limit=None) for i in range(8)]
    assert np.median(errors) < 1e-4
    assert max(errors) < 0.05
    back = restored(module, result, METHOD, tmp_path / "m.safetensors")
    assert torch.equal(back(to_tensor(x)), result.module(to_tensor(x)))
    if kind is Attention:  # tied layers have one quantizer, and are stored once
        layers = (result.module.tied.parametrizations.weight, result.module.embedding.parametrizations.weight)
        assert layers[0][0] is layers[1][0]
        assert layers[0].original is layers[1].original
        assert sum(tuple(tensor.dims) == (40, 16) for tensor in onnx.load(path).graph.initializer) == 1


def test_what_is_left_alone_is_said():
    module, _, context = case(Odd)
    metrics = apply(module, step(skip=("up",)), context).metrics
    assert metrics["kept_whole"] == {
        "up": "skipped by the recipe",
        "tiny": "its scales would take more than its integers save",
    }
    assert metrics["activations"] == ["grouped", "twice"]  # the functional call bypasses its layer
    assert metrics["layers"]["functional"] == [32, 8]


def test_a_weight_that_another_kind_of_layer_shares_stays_float():
    module, _, context = case(Perceptron)
    module.rows = torch.nn.ParameterList([module.net[3].weight])
    metrics = apply(module, step(), context).metrics
    assert metrics["kept_whole"]["net.3"] == "it shares its weight with rows"


def test_float_activations_are_left_alone(tmp_path):
    module, _, context = case(Perceptron)
    result = apply(module, step(activations="float"), context)
    model = onnx.load(to_onnx(result.module, context.inputs, tmp_path / "m.onnx"))
    assert "QuantizeLinear" not in {node.op_type for node in model.graph.node}
    assert result.metrics["activations"] == []


def test_pruned_weights_stay_zero():
    module, _, context = case(Perceptron)
    with torch.no_grad():
        module.net[3].weight[::2] = 0
    trained = apply(module, step(), context).module
    assert not trained.net[3].weight[::2].any()


def test_statistics_are_frozen_after_the_given_share():
    module, _, context = case(Perceptron)
    mean = module.net[1].running_mean.clone()
    assert torch.equal(apply(module, step(freeze_batch_norm=0.0), context).module.net[1].running_mean, mean)
    assert not torch.equal(apply(module, step(), context).module.net[1].running_mean, mean)
    assert torch.equal(module.net[1].running_mean, mean)


def test_equal_seeds_give_equal_weights_and_the_argument_is_unchanged():
    module, _, context = case(Perceptron)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    first, second = (apply(module, step(), context).module.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_nothing_to_quantize_is_refused():
    module, _, context = case(Perceptron)
    with pytest.raises(InputError, match="has no weights for train-quantized"):
        apply(module, step(skip=("net.*",)), context)
    with pytest.raises(InputError, match=r"no layer matches 'nat\.0'"):
        apply(module, step(skip=("nat.0",)), context)


def test_a_second_time_is_refused_at_check():
    assert [number for number, _ in misplaced([step(), step()], METHODS)] == [1]
