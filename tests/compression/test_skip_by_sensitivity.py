"""`skip` by sensitivity, for all methods that have it: a layer is left alone for the noise that it alone would add."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from edgepack.compression.method import Context
from edgepack.compression.registry import METHODS
from edgepack.compression.sensitivity.scan import sqnr
from edgepack.compression.sensitivity.torch_level import outputs_of
from edgepack.data import Splits
from edgepack.errors import InputError
from edgepack.export import run_onnx, to_onnx
from edgepack.spec import Input, Train

INPUTS = (Input(name="x", shape=(1, 1, 8, 8)),)
HARDLY = Train(epochs=1, lr=1e-30)  # training that changes nothing

TORCH = {
    "binarize": {"first_last": True, "fine_tune": HARDLY, "samples": 64, "activations": "binary"},
    "cluster": {"clusters": 4},
    "hash-weights": {"ratio": 0.2},
    "low-rank": {"energy": 0.6},
    "product-quantize": {"entries": 16, "size": 4},
    "prune-blocks": {"ratio": 0.5},
    "prune-channels": {"ratio": 0.5, "round_to": 1},
    "prune-weights": {"ratio": 0.7},
    "pulse-quantize": {"size": 16},
    "train-quantized": {"weights": 4, "first_last": 4, "fine_tune": HARDLY, "samples": 64},
}
ONNX = {
    "prune-channels": {"ratio": 0.5, "round_to": 1},
    "quantize-weights": {"bits": 4},
    "quantize-weights in blocks": {"bits": 8, "block_size": 16},
}


class Net(nn.Module):
    """Two convolutions and three linear layers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 24, 3, padding=1)
        self.third = nn.Linear(96, 64)
        self.fourth = nn.Linear(64, 48)
        self.last = nn.Linear(48, 10)

    def forward(self, x):
        x = torch.relu(self.second(torch.relu(self.first(x))))
        x = torch.relu(self.third(nn.functional.max_pool2d(x, 4).flatten(1)))
        return self.last(torch.relu(self.fourth(x)))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def context():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 1, 8, 8)).astype("float32")
    y = rng.integers(0, 10, 64)
    return Context(INPUTS, Splits(x, y, x[:8], y[:8]))


def limit_between(noise):
    """A limit that only the most sensitive layer is below, and that layer."""
    (least, least_name), (second, _) = sorted((ratio, name) for name, ratio in noise.items())[:2]
    assert second - least > 0.02
    return (least + second) / 2, least_name


@pytest.mark.parametrize("method", sorted(TORCH))
def test_a_layer_stays_whole_for_the_noise_that_it_alone_adds(net, context, method):
    found = METHODS[method].on("torch")

    def applied(skip):
        return found.apply(net, found.spec(method=method, skip=skip, **TORCH[method]), context)

    feeds = [{"x": context.data.x_train}]
    reference = outputs_of(net, feeds)
    layers = [name for name, (before, after) in applied(()).metrics["layers"].items() if before != after]
    assert len(layers) >= 3
    noise = {}
    for name in layers:
        others = tuple(other for other in layers if other != name)
        noise[name] = sqnr(reference, outputs_of(applied(others).module, feeds))
    limit, sensitive = limit_between(noise)
    result = applied(limit)
    left = {name: why for name, why in result.metrics["kept_whole"].items() if "sensitive" in why}
    assert list(left) == [sensitive]
    assert f"{noise[sensitive]:.1f} dB" in left[sensitive]
    before, after = (module.get_submodule(sensitive).weight for module in (net, result.module))
    if method == "prune-channels":  # its inputs are fewer
        assert len(after) == len(before)
    else:
        assert torch.equal(after, before)
    with pytest.raises(InputError):
        applied(1000.0)


@pytest.mark.parametrize("case", sorted(ONNX))
def test_on_a_file(net, context, tmp_path, case):
    method = case.partition(" ")[0]
    found = METHODS[method].on("onnx")
    path = to_onnx(net, INPUTS, tmp_path / "m.onnx")
    out = tmp_path / "q.onnx"

    def applied(skip):
        return found.apply(path, out, found.spec(method=method, skip=skip, **ONNX[case]), context)

    def outputs(file):
        return [np.concatenate([run_onnx(file, {"x": x[None]})[0] for x in context.data.x_train])]

    reference = outputs(path)
    layers = [name for name, (before, after) in applied(())["layers"].items() if before != after]
    noise = {}
    for name in layers:
        applied(tuple(other for other in layers if other != name))
        noise[name] = sqnr(reference, outputs(out))
    limit, sensitive = limit_between(noise)
    kept = applied(limit)["kept_whole"]
    left = {name: why for name, why in kept.items() if "sensitive" in why}
    assert list(left) == [sensitive]
    assert f"{noise[sensitive]:.1f} dB" in left[sensitive]
    with pytest.raises(InputError):
        applied(1000.0)


def test_dynamic_quantization_measures_the_weights_alone(net, context, tmp_path):
    path = to_onnx(net, INPUTS, tmp_path / "m.onnx")

    def kept(method, skip, **options):
        found = METHODS[method].on("onnx")
        step = found.spec(method=method, skip=skip, **options)
        return found.apply(path, tmp_path / "q.onnx", step, context)["kept_whole"]

    limits = (float(limit) for limit in range(46, 80, 3))
    found = ((limit, kept("quantize-weights", limit, scales="minmax")) for limit in limits)
    limit, weights = next((limit, weights) for limit, weights in found if weights)
    assert kept("quantize-dynamic", limit) == weights
    assert not kept("quantize-dynamic", "auto")  # no layer is far below the others


def test_auto_leaves_the_layer_that_is_far_below_the_others(net, context):
    """One input of a layer is always zero, and its weights are so large that few values represent only them."""
    changed = copy.deepcopy(net)
    with torch.no_grad():
        changed.third.weight[0] = 0
        changed.third.bias[0] = 0
        changed.fourth.weight[:, 0] = 3000 * torch.rand(48, generator=torch.Generator().manual_seed(0))
    method = METHODS["cluster"].on("torch")
    step = method.spec(method="cluster", clusters=16, skip="auto")
    assert list(method.apply(changed, step, context).metrics["kept_whole"]) == ["fourth"]
    assert not method.apply(net, step, context).metrics["kept_whole"]


@pytest.mark.parametrize(
    "method", sorted({*TORCH, "quantize-weights", "quantize-dynamic", "quantize-static"})
)
def test_measuring_needs_samples(method):
    found = METHODS[method]
    options = {**TORCH.get(method, {}), "skip": "auto"}
    step = found.spec(method=method, **options)
    for level in found.levels:
        assert any(need.kind == "samples" for need in found.on(level).needs(step))
