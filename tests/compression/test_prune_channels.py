"""Pruning as a recipe step: options, metrics and errors."""

import itertools

import pytest
import torch
from torch import nn

from edgepack.compression import prune_channels
from edgepack.compression.method import Context
from edgepack.compression.prune_channels import PruneChannels
from edgepack.errors import EdgepackError, InputError
from edgepack.spec import Input, Train
from edgepack.zoo import NETS


def step(**options):
    return PruneChannels(**{"method": "prune-channels", "ratio": 0.5, **options})


def apply(module, context=None, **options):
    context = context or Context((Input(name="x", shape=(1, 2, 8, 8)),))
    return prune_channels.apply(module, step(**options), context)


def chain(*widths):
    layers = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * 64, 3)).eval()


def test_the_digits_network_is_pruned_and_recovers_by_fine_tuning(teacher, data, inputs):
    result = apply(teacher, Context(inputs, data), ratio=0.4, round_to=4, fine_tune=Train(epochs=4))
    before, after = result.metrics["parameters"]
    assert (before, after) == (59_082, 23_490)
    assert result.metrics["macs"] == [1_825_920, 718_800]
    accuracy = result.metrics["accuracy"]
    assert accuracy["before"] >= 0.97
    assert accuracy["fine_tune"] >= accuracy["before"] - 0.02
    assert accuracy["fine_tune"] > accuracy["pruned"]
    assert result.metrics["kept_whole"] == {"classifier": "its channels are the model's output"}


def test_mobilenet_v2_keeps_a_multiple_of_eight_everywhere():
    result = prune_channels.apply(
        NETS["mobilenet_v2"].network(), step(round_to=8), Context(NETS["mobilenet_v2"].inputs)
    )
    layers = dict(result.metrics["layers"])
    assert layers.pop("classifier") == [1000, 1000]
    assert all(after % 8 == 0 and 0 < after < before for before, after in layers.values())
    assert layers["features.4.layers.3"] == layers["features.4.layers.0"] == [96, 48]
    assert layers["features.4.layers.6"] == layers["features.5.layers.6"], "joined by an addition"
    assert result.metrics["macs"][1] < 0.35 * result.metrics["macs"][0]


@pytest.mark.parametrize(
    ("ratio", "round_to", "left"), [(0.5, 1, 5), (0.5, 4, 4), (0.1, 4, 8), (0.9, 1, 1), (0.99, 1, 1)]
)
def test_ratio_and_round_to(ratio, round_to, left):
    result = apply(chain(2, 10, 8), ratio=ratio, round_to=round_to, skip=("3",))
    assert result.metrics["layers"]["0"] == [10, left]
    assert result.metrics["kept_whole"]["3"] == "skipped by the recipe"


@pytest.mark.parametrize(
    ("criterion", "kept"),
    [("l1", [1, 2]), ("l2", [0, 1]), ("bn", [0, 2])],
)
def test_criteria_measure_what_they_say(criterion, kept):
    module = chain(2, 3)
    with torch.no_grad():
        # L1 norms 3, 4, 3.2; L2 norms 3, 2.9, 2.3; scales 3, 1, 2.
        module[0].weight[:, :, 0, 0] = torch.tensor([[3.0, 0.0], [2.5, 1.5], [1.6, 1.6]])
        module[1].weight[:] = torch.tensor([3.0, 1.0, -2.0])
        original = module[0].weight.clone()
    result = apply(module, ratio=1 / 3, criterion=criterion)
    assert torch.equal(result.module[0].weight, original[kept])
    assert torch.equal(result.module[1].weight, module[1].weight[kept])


def test_skip_takes_patterns_and_names_the_near_miss():
    assert apply(chain(2, 8, 8), skip=("0",)).metrics["layers"] == {"0": [8, 8], "3": [8, 4], "7": [3, 3]}
    with pytest.raises(InputError, match="no layer matches 'stem'; there are 0, 3, 7"):
        apply(chain(2, 8, 8), skip=("stem",))
    named = nn.Sequential()
    named.add_module("stem", nn.Conv2d(2, 8, 1))
    named.add_module("flat", nn.Flatten())
    named.add_module("head", nn.Linear(8 * 64, 3))
    with pytest.raises(InputError, match="did you mean 'stem'"):
        apply(named, skip=("stemm",))
    with pytest.raises(InputError, match="has no channels to remove") as caught:
        apply(named, skip=("st*",))
    assert "stem: skipped by the recipe" in caught.value.why


def test_bn_needs_batch_normalisation():
    module = nn.Sequential(nn.Conv2d(2, 8, 1), nn.Flatten(), nn.Linear(8 * 64, 3))
    with pytest.raises(InputError, match="no batch normalisation scales the channels of 0"):
        apply(module, criterion="bn")


def test_fine_tuning_needs_data(teacher, inputs):
    with pytest.raises(InputError, match="training needs samples"):
        apply(teacher, Context(inputs), fine_tune=Train(epochs=1))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 8, 1)

    def forward(self, x):
        x = self.conv(x)
        if x.mean() > 0:
            return x
        return -x


def test_a_model_that_cannot_be_traced_names_the_line():
    with pytest.raises(InputError, match="Branching cannot be traced") as caught:
        apply(Branching())
    line = Branching.forward.__code__.co_firstlineno + 2
    assert caught.value.where == f"{__file__}:{line}"
    assert "control flow" in caught.value.why


class Unknown(nn.Module):
    """A network of which half cannot be analysed."""

    def __init__(self, operation):
        super().__init__()
        self.operation = operation
        self.a, self.b, self.norm = nn.Conv2d(2, 8, 1), nn.Conv2d(2, 8, 1), nn.GroupNorm(2, 8)
        self.softmax = nn.Softmax(dim=1)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))
        self.mix, self.fc = nn.Conv2d(8, 8, 1), nn.Linear(8, 3)

    def forward(self, x):
        a, b = self.a(x), self.mix(self.b(x))
        a = {
            "norm": self.norm,
            "softmax": self.softmax,
            "scale": lambda t: t * self.scale,
            "shuffle": lambda t: t.view(1, 2, 4, 8, 8).transpose(1, 2).reshape(1, 8, 8, 8),
            "split": lambda t: torch.cat(t.chunk(2, 1)[::-1], 1),
            "mean": lambda t: t - t.mean(1, keepdim=True),
            "flip": lambda t: t.flip(1),
            "fixed view": lambda t: t.view(1, 8, 64).view(1, 8, 8, 8),
        }[self.operation](a)
        return self.fc((a * b).mean((2, 3)))


@pytest.mark.parametrize(
    "operation", ["norm", "softmax", "scale", "shuffle", "split", "mean", "flip", "fixed view"]
)
def test_what_is_not_followed_stays_whole_and_is_named(operation):
    result = apply(Unknown(operation))
    layers = result.metrics["layers"]
    assert layers["a"] == [8, 8]
    assert layers["b"] == [8, 4]
    assert "needs all of them" in result.metrics["kept_whole"]["a"]
    assert result.module(torch.randn(1, 2, 8, 8)).shape == (1, 3)


def test_shared_weights_stay():
    module = nn.Sequential(
        nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 8, 1), nn.Flatten(), nn.Linear(512, 3)
    )
    module[2].weight = module[0].weight
    result = apply(module)
    assert result.metrics["layers"] == {"0": [2, 2], "2": [2, 2], "3": [8, 4], "5": [3, 3]}
    assert "shared" in result.metrics["kept_whole"]["0"]


class CountsChannels(nn.Module):
    """A network whose arithmetic on sizes holds only for the full width."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 8, 1), nn.Linear(8, 3)

    def forward(self, x):
        y = self.conv(x)
        return self.fc(y.mean((2, 3))) * (y.size(1) / 8)


def test_a_network_that_counts_its_channels_is_not_silently_changed():
    with pytest.raises(EdgepackError, match="does not compute the same as the masked original"):
        apply(CountsChannels())
