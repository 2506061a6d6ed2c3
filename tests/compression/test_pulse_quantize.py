"""Pyramid vector quantization: the search, scales, and sizes."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from edgepack.compression.method import Context
from edgepack.compression.pulse_quantize import PulseQuantize, apply, nearest_pulses
from edgepack.spec import Input, Train

X = (Input(name="x", shape=(1, 64)),)


def step(**options):
    return PulseQuantize(method="pulse-quantize", **options)


def test_digits_keep_their_accuracy_with_a_pulse_per_weight(teacher, data, inputs):
    result = apply(teacher, step(fine_tune=Train(epochs=2)), Context(inputs, data))
    before, after = result.metrics["weight_bytes"]
    assert before / after > 6.5
    score = result.metrics["score"]
    assert score["fine_tune"] >= score["before"] - 0.02


@pytest.mark.parametrize("count", [1, 3, 6])
def test_the_search_is_close_to_the_best_point_of_the_pyramid(count):
    vectors = np.random.default_rng(0).standard_normal((40, 4)).astype("float32")
    points = np.array(
        [p for p in itertools.product(range(-count, count + 1), repeat=4) if np.abs(p).sum() == count]
    )
    cosines = vectors @ points.T / np.linalg.norm(points, axis=1)
    found = nearest_pulses(vectors, count)
    assert found.dtype == np.int8
    assert (np.abs(found).sum(1) == count).all()
    reached = (vectors * found).sum(1) / np.linalg.norm(found, axis=1)
    assert (reached >= 0.97 * cosines.max(1)).all()
    assert np.mean(reached / cosines.max(1)) > 0.998


def test_scales_have_the_smallest_error_and_zeros_no_pulses():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 16))
    with torch.no_grad():
        net[0].weight[3] = 0
        net[0].weight[:, ::5] = 0
    layer = apply(net, step(size=32, pulses=0.5), Context(X)).module[0]
    weight, decoded = net[0].weight.reshape(-1, 32), layer.weight.reshape(-1, 32)
    assert not layer.weight[3].any()
    assert not layer.weight[:, ::5].any()
    pulses = layer.parametrizations.weight[0].pulses
    assert sorted(set(pulses.abs().sum(1).tolist())) == [0, 16]
    for factor in (0.99, 1.01):  # along the pulses, no other scale is closer
        errors = ((weight - decoded).square().sum(1), (weight - factor * decoded).square().sum(1))
        assert (errors[0] <= errors[1] + 1e-9).all()


def test_a_large_single_weight_takes_many_pulses():
    net = nn.Sequential(nn.Linear(64, 2))
    with torch.no_grad():
        net[0].weight.fill_(1e-4)
        net[0].weight[:, 0] = 1
    layer = apply(net, step(size=64, pulses=4), Context(X)).module[0]
    assert int(layer.parametrizations.weight[0].pulses.max()) == 127  # as many as int8 holds
    torch.testing.assert_close(layer.weight[:, 0].detach(), torch.ones(2), rtol=1e-3, atol=0)
