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
from edgepack.torchnet.checkpoint import restore, save
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
    accuracy = result.metrics["score"]
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


class Upsampling(nn.Module):
    """Transposed convolutions, one of them depthwise, that keep their outputs where the loss comes from."""

    def __init__(self):
        super().__init__()
        self.down, self.each = nn.Conv2d(2, 8, 3, stride=2, padding=1), nn.ConvTranspose2d(8, 8, 1, groups=8)
        self.up, self.head = nn.ConvTranspose2d(8, 6, 2, stride=2, bias=False), nn.Conv2d(6, 2, 1)

    def forward(self, x):
        return self.head(torch.relu(self.up(self.each(torch.relu(self.down(x))))))


def test_transposed_convolutions_are_pruned_and_restored(tmp_path):
    torch.manual_seed(0)
    result = apply(Upsampling().eval())
    assert result.metrics["layers"] == {"down": [8, 4], "each": [8, 4], "up": [6, 3], "head": [2, 2]}
    save(result.module, tmp_path / "m.safetensors")
    restored = restore(Upsampling(), tmp_path / "m.safetensors", {}).module
    x = torch.randn(3, 2, 8, 8)
    with torch.no_grad():
        assert torch.equal(restored(x), result.module(x))


def counted(metrics, key):
    before, after = metrics[key]
    return after / before


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize(("option", "metric"), [("macs", "macs"), ("size", "parameters")])
def test_a_budget_is_met_and_hardly_more_is_removed(teacher, inputs, scope, option, metric):
    result = apply(teacher, Context(inputs), **{"ratio": None, option: 0.5, "scope": scope})
    assert 0.45 < counted(result.metrics, metric) <= 0.505
    rounded = apply(teacher, Context(inputs, lanes=8), **{"ratio": None, option: 0.5, "scope": scope})
    assert 0.3 < counted(rounded.metrics, metric) <= 0.505, "widths are multiples of 8"
    with pytest.raises(InputError, match="the budget cannot be met") as caught:
        apply(teacher, Context(inputs), ratio=None, **{option: 0.001}, round_to=8)
    assert f"raise {option}" in caught.value.next


def test_layers_compete_and_none_vanishes():
    module = chain(2, 10, 20)
    with torch.no_grad():
        module[1].weight[:], module[4].weight[:] = 0.01, torch.linspace(1, 2, 20)
    result = apply(module, ratio=0.3, scope="global", criterion="bn")
    assert result.metrics["layers"] == {"0": [10, 1], "3": [20, 20], "7": [3, 3]}


def test_widths_are_multiples_of_the_vectors_of_the_targets():
    module = chain(2, 64, 40, 12, 6)
    context = Context((Input(name="x", shape=(1, 2, 8, 8)),), lanes=16)
    left = [after for _, after in apply(module, context, ratio=0.4).metrics["layers"].values()]
    assert left == [32, 32, 8, 4, 3], "of 16; of 16; of 4, as 16 would take all or nothing; of 2"
    assert apply(module, context, ratio=0.4, round_to=1).metrics["layers"]["0"] == [64, 38]


def test_several_iterations_end_at_the_same_widths():
    module = chain(2, 32, 32)
    assert apply(module, ratio=0.75, criterion="bn", iterations=3).metrics["layers"] == {
        "0": [32, 8], "3": [32, 8], "7": [3, 3]
    }  # fmt: skip
    with pytest.raises(InputError, match="without fine_tune"):
        apply(module, ratio=0.75, iterations=3)
    for options, message in (({"ratio": None}, "expected one of"), ({"macs": 0.5}, "got ratio and macs")):
        with pytest.raises(InputError, match=message):
            apply(module, **options)


def test_taylor_and_activation_keep_the_channels_that_matter(data, inputs):
    """Half of the first layer's channels are large, and nothing reads them, or never on."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)).eval()
    dead = [0, 3, 4, 6]
    with torch.no_grad():
        module[0].weight[dead] *= 10
        module[0].bias[dead] = -1000.0
    first = module[0].weight.detach().clone()
    kept = [i for i in range(8) if i not in dead]
    for options in ({"criterion": "taylor"}, {"criterion": "activation", "samples": 32}):
        result = apply(module, Context(inputs, data), **options)
        assert torch.equal(result.module[0].weight, first[kept]), options
        assert torch.equal(module[0].weight, first), "the original was changed"
    assert not torch.equal(apply(module, Context(inputs)).module[0].weight, first[kept])
    with pytest.raises(InputError, match="needs samples"):
        apply(module, Context(inputs), criterion="activation")


def test_random_channels_depend_on_the_seed_alone():
    module = chain(2, 16)
    first, again, other = (
        apply(module, criterion="random", seed=seed).module[0].weight for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
