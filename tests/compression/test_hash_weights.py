"""Hashed weights: the hash, the first values, and training through it."""

import numpy as np
import pytest
import torch
from torch import nn

from edgepack.compression.hash_weights import HashWeights, apply
from edgepack.compression.method import Context
from edgepack.spec import Input, Train
from edgepack.torchnet.codebooks import PRIME, HashedValues

X = (Input(name="x", shape=(1, 64)),)


def step(**options):
    return HashWeights(method="hash-weights", **options)


def test_digits_are_learnt_through_the_hash(teacher, data, inputs):
    result = apply(teacher, step(ratio=0.25, fine_tune=Train(epochs=8, lr=4e-3)), Context(inputs, data))
    before, after = result.metrics["weight_bytes"]
    assert before / after == pytest.approx(4, rel=0.01)
    score = result.metrics["score"]
    assert score["fine_tune"] > score["before"] - 0.06
    assert score["encoded"] < score["fine_tune"]


def test_the_hash_is_that_of_python_integers_and_fills_the_table_evenly():
    factors = (PRIME - 1, 2, PRIME - 2, 12_345)
    form = HashedValues(100, (50, 40), factors)
    a, b, c, d = factors
    expected = [(((a * i + b) * i + c) * i + d) % PRIME % 200 for i in range(2000)]
    assert form.index.tolist() == expected
    random = HashedValues(100, (500, 40), (123_456_789, 987_654_321, 1_234_567, 42))
    counts = np.bincount(random.index.numpy() % 100, minlength=100)
    assert counts.min() > 130  # 200 on average, deviation 14
    assert counts.max() < 270
    assert 0.48 < float((random.index < 100).float().mean()) < 0.52


def test_without_training_values_are_the_closest_possible():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 32))
    result = apply(net, step(ratio=0.1), Context(X))
    chain = result.module[0].parametrizations.weight
    form, table = chain[0], chain.original.detach()
    signs = torch.zeros(64 * 32, len(table))
    index = form.index
    signs[torch.arange(64 * 32), index % len(table)] = torch.where(index < len(table), 1.0, -1.0)
    closest = torch.linalg.lstsq(signs, net[0].weight.detach().reshape(-1, 1)).solution[:, 0]
    torch.testing.assert_close(table, closest, rtol=1e-4, atol=1e-5)


def test_layers_have_hashes_of_their_own_and_seeds_other_ones():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))

    def hashes(seed):
        module = apply(net, step(seed=seed), Context(X)).module
        return [layer.parametrizations.weight[0].index for layer in module]

    first, second = hashes(0)
    assert not torch.equal(first, second)
    assert torch.equal(first, hashes(0)[0])
    assert not torch.equal(first, hashes(1)[0])
