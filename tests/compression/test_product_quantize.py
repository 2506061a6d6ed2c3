"""Vector codebooks: how weights are divided, means, and tables."""

import pytest
import torch
from torch import nn

from edgepack.compression.method import Context
from edgepack.compression.product_quantize import ProductQuantize, apply, vector_size
from edgepack.spec import Input, Train

X = (Input(name="x", shape=(1, 64)),)


def step(**options):
    return ProductQuantize(method="product-quantize", **options)


def test_digits_keep_their_accuracy_in_a_tenth(teacher, data, inputs):
    result = apply(teacher, step(entries=64, fine_tune=Train(epochs=3)), Context(inputs, data))
    before, after = result.metrics["weight_bytes"]
    assert before / after > 10
    score = result.metrics["score"]
    assert score["fine_tune"] >= score["before"] - 0.03


@pytest.mark.parametrize(
    ("shape", "wanted", "size"),
    [
        ((32, 16, 3, 3), 8, 9),  # a kernel
        ((32, 16, 3, 3), 4, 4),
        ((32, 16, 1, 1), 8, 8),
        ((32, 1, 3, 3), 8, 9),
        ((10, 64), 8, 8),
        ((10, 30), 8, 10),
        ((10, 7), 3, 1),
        ((4, 3, 7), 5, 7),
    ],
)
def test_vectors_divide_rows(shape, wanted, size):
    assert vector_size(shape, wanted) == size


def test_means_of_rows_are_stored_besides_and_lower_the_error():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64, bias=False))
    with torch.no_grad():
        net[0].weight += torch.linspace(-1, 1, 64)[:, None]
    errors = {}
    for remove_mean in (False, True):
        result = apply(net, step(entries=16, remove_mean=remove_mean), Context(X))
        errors[remove_mean] = float((result.module[0].weight - net[0].weight).detach().square().mean())
        stored = 64 * 8 // 2 + 16 * 8 * 4 + remove_mean * 64 * 4
        assert result.metrics["layers"] == {"0": [64 * 64 * 4, stored]}
    assert errors[True] < errors[False] / 2


def test_vectors_of_zeros_are_a_code_and_need_no_mask():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64))
    with torch.no_grad():
        net[0].weight[:, 8:40] = 0
    result = apply(net, step(entries=16), Context(X))
    assert not result.module[0].weight[:, 8:40].any()
    assert result.metrics["layers"] == {"0": [64 * 64 * 4, 64 * 8 // 2 + 16 * 8 * 4]}
    with torch.no_grad():
        net[0].weight[:, ::3] = 0
    result = apply(net, step(entries=16), Context(X))
    assert not result.module[0].weight[:, ::3].any()
    mask = 64 * 64 // 8
    assert result.metrics["layers"] == {"0": [64 * 64 * 4, 64 * 8 // 2 + 16 * 8 * 4 + mask]}


def test_layers_with_few_vectors_get_smaller_tables():
    torch.manual_seed(0)
    result = apply(nn.Sequential(nn.Linear(64, 16)), step(entries=256), Context(X))
    table = result.module[0].parametrizations.weight.original0
    assert table.shape == (32, 8)  # a quarter of 128 vectors
