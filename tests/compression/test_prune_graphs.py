"""Pruning follows real topologies.

Each network has channels whose filters are zero, so that they carry nothing: pruning must find exactly
these, through additions, concatenations and groups, and the smaller network must compute the same.
"""

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from edgepack.compression import prune_channels
from edgepack.compression.method import Context
from edgepack.compression.prune_channels import PruneChannels
from edgepack.spec import Input


def conv(inputs, outputs, groups=1, kernel=3):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Head(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc = nn.Linear(channels, 3)

    def forward(self, x):
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Residual(nn.Module):
    zero = {"stem.0": [1, 6], "b.0": [1, 6], "a.0": [0, 3]}  # noqa: RUF012 - constants of a test

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b, self.head = conv(2, 8), conv(8, 8), conv(8, 8), Head(8)

    def forward(self, x):
        x = self.stem(x)
        x += self.b(self.a(x))
        return self.head(torch.relu(x))


class Concat(nn.Module):
    zero = {"a.0": [0, 5], "b.0": [2], "c.0": [3, 4, 7]}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.head = conv(2, 8), conv(2, 4), conv(12, 12), Head(12)

    def forward(self, x):
        return self.head(self.c(torch.cat([self.a(x), self.b(x)], dim=1)))


class Dense(nn.Module):
    """Each concatenation is read twice, and added to a third tensor."""

    zero = {"a.0": [0, 5], "b.0": [1, 2], "c.0": [0, 5, 9, 10]}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.head = conv(2, 8), conv(8, 8), conv(16, 16), Head(16)

    def forward(self, x):
        a = self.a(x)
        both = torch.cat((a, self.b(a)), 1)
        return self.head(both + self.c(both))


class DepthwiseSeparable(nn.Module):
    zero = {"stem.0": [2, 7], "dw.0": [2, 7], "pw.0": [0, 1, 8, 9]}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.stem, self.dw, self.pw, self.head = conv(2, 8), conv(8, 8, 8), conv(8, 16, kernel=1), Head(16)

    def forward(self, x):
        return self.head(self.pw(self.dw(self.stem(x))))


class Grouped(nn.Module):
    """Four groups of two: groups are removed as a whole."""

    zero = {"stem.0": [4, 5], "grouped.0": [8, 9, 10, 11]}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.stem, self.grouped, self.head = conv(2, 8), conv(8, 16, 4), Head(16)

    def forward(self, x):
        return self.head(self.grouped(self.stem(x)))


class SqueezeExcite(nn.Module):
    zero = {"stem.0": [3, 5], "down": [1], "up": [3, 5]}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.stem, self.down, self.up, self.head = conv(2, 8), nn.Linear(8, 4), nn.Linear(4, 8), Head(8)

    def forward(self, x):
        x = self.stem(x)
        scale = torch.sigmoid(self.up(torch.relu(self.down(x.mean((2, 3))))))
        return self.head(x * scale[:, :, None, None])


class Flattened(nn.Module):
    """Every channel becomes 16 inputs of the linear layer."""

    zero = {"stem.0": [0, 7], "hidden": [0, 1, 2]}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.stem, self.hidden, self.out = conv(2, 8), nn.Linear(8 * 16, 12), nn.Linear(12, 3)

    def forward(self, x):
        x = functional.max_pool2d(self.stem(x), 2)
        return self.out(torch.relu(self.hidden(x.view(x.size(0), -1))))


class ChannelsLast(nn.Module):
    zero = {"stem.0": [0, 7], "mix": [1, 2, 3]}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.stem, self.mix, self.head = conv(2, 8), nn.Linear(8, 12), Head(12)

    def forward(self, x):
        x = torch.relu(self.mix(self.stem(x).permute(0, 2, 3, 1)))
        return self.head(x.transpose(1, 3))


class UsedTwice(nn.Module):
    """One layer, run twice: its input and output channels are the same set."""

    zero = {"stem.0": [2, 4], "again.0": [2, 4]}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.stem, self.again, self.head = conv(2, 8), conv(8, 8), Head(8)

    def forward(self, x):
        return self.head(self.again(self.again(self.stem(x))))


class Attention(nn.Module):
    """Four heads of 4, added to what they attend to: heads are removed as a whole."""

    zero = {"query": [4, 5, 6, 7], "key": [4, 5, 6, 7], "value": [4, 5, 6, 7]}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.embed, self.norm, self.out = nn.Linear(64, 8), nn.LayerNorm(8), nn.Linear(16, 8)
        self.query, self.key, self.value = (nn.Linear(8, 16) for _ in range(3))
        self.head = nn.Linear(8, 3)
        self.register_buffer("mask", torch.ones(2, 2, dtype=torch.bool).triu(1))

    def forward(self, x):
        x = self.norm(self.embed(x.flatten(2)))
        query, key = (layer(x).unflatten(2, (-1, 4)).transpose(1, 2) for layer in (self.query, self.key))
        value = self.value(x).view(x.shape[0], x.shape[1], -1, 4).transpose(1, 2)
        scores = (query @ key.transpose(-2, -1) * 0.5).masked_fill(self.mask, -1e9)
        mixed = torch.softmax(scores, dim=-1) @ value
        mixed = mixed + nn.functional.scaled_dot_product_attention(query, key, value)
        return self.head((x + self.out(mixed.transpose(1, 2).flatten(2)))[:, 0])


NETWORKS = (
    Residual,
    Concat,
    Dense,
    DepthwiseSeparable,
    Grouped,
    SqueezeExcite,
    Flattened,
    ChannelsLast,
    UsedTwice,
    Attention,
)


def prune(module, shape=(1, 2, 8, 8), **options):
    step = PruneChannels(**{"method": "prune-channels", "ratio": 0.25, **options})
    return prune_channels.apply(module, step, Context((Input(name="x", shape=shape),)))


def randomised(module):
    """Batch normalisation with statistics and scales of its own."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                nn.init.uniform_(tensor.data, 0.5, 1.5)
    return module.eval()


def zeroed(build):
    """Silence the channels ``zero`` of a network; also return what must be left of each layer."""
    torch.manual_seed(0)
    module = randomised(build())
    layers = dict(module.named_modules())
    with torch.no_grad():
        for name, channels in build.zero.items():
            # A subsequent batch normalisation must not revive the channel.
            norm = layers.get(name.removesuffix("0") + "1") if name.endswith(".0") else None
            for layer in [layers[name]] + ([norm] if norm else []):
                layer.weight[channels] = 0
                if layer.bias is not None:
                    layer.bias[channels] = 0
    return module, layers


@pytest.mark.parametrize("build", NETWORKS, ids=lambda build: build.__name__)
def test_silent_channels_go_and_the_outputs_stay(build):
    module, layers = zeroed(build)
    dense = copy.deepcopy(module)
    result = prune(module)
    x = torch.randn(4, 2, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(result.module(x), dense(x), rtol=1e-4, atol=1e-5)
        assert torch.equal(module(x), dense(x)), "the original was changed"
    for name, channels in build.zero.items():
        width = layers[name].weight.shape[0]
        assert result.metrics["layers"][name] == [width, width - len(channels)], name
    before, after = result.metrics["parameters"]
    assert before == sum(p.numel() for p in dense.parameters())
    assert after == sum(p.numel() for p in result.module.parameters()) < before


def test_a_pruned_network_trains_and_exports_like_any_other(tmp_path):
    from edgepack.export import parity, to_onnx

    module = prune(zeroed(Dense)[0]).module
    inputs = (Input(name="x", shape=(1, 2, 8, 8)),)
    path = to_onnx(module, inputs, tmp_path / "m.onnx")
    x = torch.randn(1, 2, 8, 8)
    assert parity(module, path, [x.numpy()]) < 1e-5
    module.train()
    module(torch.randn(2, 2, 8, 8)).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in module.parameters())


class Generated(nn.Module):
    """A network of random blocks."""

    def __init__(self, blocks, widths):
        super().__init__()
        self.kinds = blocks
        self.stem = conv(2, widths[0])
        channels = widths[0]
        parts = []
        for kind, width in zip(blocks, widths[1:], strict=True):
            if kind == "plain":
                parts.append(conv(channels, width))
                channels = width
            elif kind == "residual":
                parts.append(nn.Sequential(conv(channels, width), conv(width, channels)))
            elif kind == "concat":
                parts.append(conv(channels, width, kernel=1))
                channels += width
            elif kind == "depthwise":
                parts.append(conv(channels, channels, channels))
            elif kind == "grouped":
                parts.append(nn.Sequential(conv(channels, 4 * width), conv(4 * width, 8 * width, 4)))
                channels = 8 * width
            elif kind == "gate":
                parts.append(nn.Conv2d(channels, channels, 1))
        self.parts = nn.ModuleList(parts)
        self.head = Head(channels)

    def forward(self, x):
        x = self.stem(x)
        for kind, part in zip(self.kinds, self.parts, strict=True):
            if kind == "residual":
                x = x + part(x)
            elif kind == "concat":
                x = torch.cat([part(x), x], 1)
            elif kind == "gate":
                x = x * torch.sigmoid(part(functional.adaptive_avg_pool2d(x, 1)))
            else:
                x = part(x)
        return self.head(x)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    blocks=st.lists(
        st.sampled_from(["plain", "residual", "concat", "depthwise", "grouped", "gate"]),
        min_size=1,
        max_size=5,
    ),
    widths=st.lists(st.integers(2, 9), min_size=6, max_size=6),
    ratio=st.sampled_from([0.3, 0.5, 0.8]),
    criterion=st.sampled_from(["l1", "l2"]),
)
def test_any_chain_of_blocks_is_pruned_to_its_masked_self(blocks, widths, ratio, criterion):
    """apply() compares the result with the original with masked channels, and raises an error."""
    torch.manual_seed(0)
    module = randomised(Generated(blocks, [max(widths[0], 4), *widths[1 : len(blocks) + 1]]))
    result = prune(module, ratio=ratio, criterion=criterion)
    assert result.module(torch.randn(2, 2, 8, 8)).shape == (2, 3)
    assert result.metrics["macs"][1] < result.metrics["macs"][0]
    assert all(0 < after <= before for before, after in result.metrics["layers"].values())
