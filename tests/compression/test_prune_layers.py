"""Depth pruning as a recipe step: which blocks, how many, and the network without them."""

import pytest
import torch
from torch import nn

from edgepack.compression import prune_layers
from edgepack.compression.context import Context
from edgepack.compression.prune_layers import PruneLayers
from edgepack.errors import InputError
from edgepack.export import parity, to_onnx
from edgepack.spec import Input, Train
from edgepack.torchnet import checkpoint
from edgepack.torchnet.blocks import outermost_blocks, removable
from edgepack.torchnet.branches import branches
from edgepack.zoo import NETS, digits


def apply(module, context, **options):
    return prune_layers.apply(module, PruneLayers(method="prune-layers", **options), context)


class Residual(nn.Module):
    def __init__(self, width, size):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))
        with torch.no_grad():
            self.body[2].weight.mul_(size)
            self.body[2].bias.zero_()

    def forward(self, x, scale=1.0):
        return x + scale * self.body(x)


class Deep(nn.Module):
    """Two stages of residual blocks of known importance; one block is used twice, one gets a second argument."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(*(Residual(8, size) for size in (1.0, 0.01, 0.5)))
        self.widen = nn.Linear(8, 12)
        self.second, self.last = Residual(12, 0.1), Residual(12, 2.0)
        self.other = nn.Linear(6, 8)

    def forward(self, x, y):
        x = self.widen(self.first(x + self.other(y)))
        return self.last(self.second(self.second(x), 0.5)), x


DEEP = (Input(name="x", shape=(1, 8)), Input(name="y", shape=(1, 6)))


def test_blocks_are_found_and_the_least_important_go_first():
    module = Deep().eval()
    examples = torch.randn(1, 8), torch.randn(1, 6)
    found = removable(module, examples)
    assert list(outermost_blocks(found)) == ["first.0", "first.1", "first.2", "second", "last"]
    assert found["second"].macs == 2 * 2 * 12 * 12, "it is used twice"
    result = apply(module, Context(DEEP), count=2)
    assert next(iter(result.metrics["layers"])) == "first.1"
    assert result.change == {"removed": list(result.metrics["layers"])}
    assert min(result.metrics["sqnr"], key=result.metrics["sqnr"].get) == "last"
    assert apply(module, Context(DEEP), count=2).change == result.change
    for got, want in zip(result.module(*examples), module(*examples), strict=True):
        assert got.shape == want.shape
    kept = apply(module, Context(DEEP), ratio=0.4, skip=("first.*",))
    assert list(kept.metrics["layers"]) == ["second"]
    single = apply(module, Context(DEEP), count=1, blocks=("first.0.body*", "other", "widen"))
    assert next(iter(single.metrics["layers"])).startswith("first.0.body")


def test_the_residual_block_of_the_digits_network_is_removed_and_recovered(teacher, data, inputs, tmp_path):
    result = apply(teacher, Context(inputs, data), macs=0.4, fine_tune=Train(epochs=4, lr=2e-3))
    before, after = result.metrics["macs"]
    assert after <= 0.4 * before
    assert result.metrics["layers"] == {"residual": [18_560, 0]}
    accuracy = result.metrics["score"]
    assert accuracy["pruned"] < accuracy["fine_tune"] >= accuracy["before"] - 0.03
    path = tmp_path / "shallow.safetensors"
    checkpoint.save(result.module, path, [checkpoint.Change("prune-layers", result.change)])
    again = checkpoint.restore(digits.network(), path, {"prune-layers": prune_layers.rebuild}).module
    x = torch.from_numpy(data.x_test[:4])
    assert torch.equal(again(x), result.module(x))
    exported = to_onnx(again, inputs, tmp_path / "shallow.onnx")
    assert parity(again, exported, [data.x_test[:1]]) < 1e-4


def test_the_blocks_of_known_networks():
    for name, some, count in (
        ("resnet18", {"layers.0"}, 5), ("mobilenet_v2", set(), 10), ("bert_tiny", {"layers.0", "layers.1"}, 2),
    ):  # fmt: skip
        net = NETS[name]
        inputs = tuple(
            Input(name=i.name, shape=(1, 3, 32, 32) if len(i.shape) == 4 else i.shape, dtype=i.dtype)
            for i in net.inputs
        )
        from edgepack.torchnet.layers import example_inputs

        blocks = outermost_blocks(removable(net.network(), example_inputs(inputs)))
        assert len(blocks) == count, (name, list(blocks))
        assert some <= set(blocks) or name == "resnet18"


class Widening(nn.Module):
    """A block with a projection, whose sum is computed in place or not; ``relu`` is used twice."""

    def __init__(self, *, in_place):
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 4)
        self.in_place = in_place

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.in_place:
            out += self.down(x)
        else:
            out = self.down(x) + out
        return self.head(self.relu(out).mean((2, 3)))


@pytest.mark.parametrize("in_place", [False, True])
def test_a_branch_beside_a_projection_is_removed(in_place, tmp_path):
    module = Widening(in_place=in_place).eval()
    context = Context((Input(name="x", shape=(1, 3, 6, 6)),))
    with pytest.raises(InputError, match="has no block that can be removed"):
        apply(module, context, count=1)
    result = apply(module, context, count=1, branches=True)
    branch = "conv1, bn1, conv2, bn2"
    own = sum(p.numel() for name in branch.split(", ") for p in module.get_submodule(name).parameters())
    assert result.metrics["layers"] == {branch: [own, 0]}
    before, after = result.metrics["parameters"]
    assert before - after == own
    x = torch.randn(2, 3, 6, 6)
    with torch.no_grad():
        want = module.head(module.relu(module.down(x)).mean((2, 3)))
        torch.testing.assert_close(result.module(x), want)
    again = prune_layers.rebuild(Widening(in_place=in_place), result.change).eval()
    again.load_state_dict(result.module.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again(x), want)
    exported = to_onnx(result.module, context.inputs, tmp_path / "m.onnx")
    assert parity(again, exported, [x[:1].numpy()]) < 1e-4
    with pytest.raises(InputError, match="has no block that can be removed"):
        apply(module, context, count=1, branches=True, skip=("conv1",))


class Unlike(nn.Module):
    """Sums of two inputs, of a value with itself, of one that is read elsewhere, of a layer that is used twice."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(8, 8) for _ in range(4))
        self.wide = nn.Linear(8, 1)

    def forward(self, x, y):
        both = self.a(x) + self.b(y)
        read = self.c(both)
        twice = read + read
        return twice + both, self.d(both) + self.wide(both), torch.relu(self.d(both)) + both


def test_sums_without_a_branch():
    found = branches(Unlike().eval(), (torch.randn(1, 8), torch.randn(1, 8)))
    assert list(found) == ["wide"], "which adds one number to all of a row"


def test_branches_of_known_networks():
    module = NETS["resnet18"].network()
    found = branches(module, (torch.randn(1, 3, 32, 32),))
    assert len(found) == 8
    assert [name for name in found if "shortcut" in name] == []
    context = Context((Input(name="x", shape=(1, 3, 32, 32)),))
    inside = outermost_blocks(removable(module, (torch.randn(1, 3, 32, 32),)))
    outside = [name for name in found if not any(name.startswith(f"{block}.") for block in inside)]
    assert len(outside) == 3
    smallest = apply(module, context, macs=0.9, branches=True, samples=2)
    assert smallest.metrics["macs"][1] <= 0.9 * smallest.metrics["macs"][0]

    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    assert branches(Branching(), (torch.ones(1, 4),)) == {}, "it cannot be traced"


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))

    def forward(self, x):
        return self.b(self.a(x)) * self.b[0].weight.mean()


def test_errors_say_what_to_do():
    context = Context((Input(name="x", shape=(1, 8)),))
    with pytest.raises(InputError, match="expected one of count, ratio and macs"):
        apply(Plain(), context)
    with pytest.raises(InputError, match="the blocks that can be removed are too few: b"):
        apply(Plain(), context, count=1)
    with pytest.raises(InputError, match="too few") as caught:
        apply(Deep().eval(), Context(DEEP), macs=0.05)
    assert "of the MACs are left" in caught.value.why
    with pytest.raises(InputError, match="a cannot be removed") as caught:
        apply(Plain(), context, count=1, blocks=("a",))
    assert caught.value.next == "removable are b, b.0, b.2"
    with pytest.raises(InputError, match="no layer matches 'c'"):
        apply(Plain(), context, count=1, blocks=("c",))
    with pytest.raises(InputError, match="has no block that can be removed"):
        apply(nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 8)), context, count=1)
