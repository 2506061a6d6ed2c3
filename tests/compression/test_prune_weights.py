"""prune-weights: which weights become zero, and that they stay so."""

import copy

import pytest
import torch
from torch import nn

from edgepack.compression import prune_weights
from edgepack.compression.method import Context
from edgepack.compression.prune_weights import PruneWeights
from edgepack.errors import InputError
from edgepack.spec import Input, Train
from edgepack.torchnet.checkpoint import restore, save
from edgepack.zoo import digits


def prune(module, context=None, **options):
    step = PruneWeights(**{"method": "prune-weights", **options})
    return prune_weights.apply(module, step, context or Context((Input(name="x", shape=(1, 4, 6, 6)),)))


class Odd(nn.Module):
    """What users bring: a layer used twice, tied weights, grouped and transposed convolutions, an LSTM, no bias."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(4, 8, 3, padding=1, bias=False)
        self.again = nn.Conv2d(8, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.up = nn.ConvTranspose2d(8, 12, 2, stride=2, groups=2)
        self.tied, self.shared = nn.Linear(12, 12), nn.Linear(12, 12)
        self.shared.weight = self.tied.weight
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(12, 12))
        self.lstm = nn.LSTM(12, 8, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        x = self.depthwise(self.again(self.again(self.first(x))))
        x = self.up(x).flatten(2).transpose(1, 2)
        return self.out(self.lstm(self.normed(self.shared(self.tied(x))))[0][:, -1])


@pytest.fixture
def odd():
    torch.manual_seed(0)
    return Odd().eval()


def sparsity(tensor):
    return float((tensor == 0).float().mean())


def test_each_layer_loses_its_smallest_weights(odd):
    before = copy.deepcopy(odd.state_dict())
    result = prune(odd, ratio=0.75, skip=("out",))
    pruned = dict(result.module.named_parameters())
    assert set(result.metrics["layers"]) == {
        "first", "again", "depthwise", "up", "tied", "lstm.weight_ih_l0", "lstm.weight_hh_l0"
    }  # fmt: skip
    for name in ("first.weight", "up.weight", "tied.weight", "lstm.weight_hh_l0"):
        weight, left = before[name], pruned[name]
        assert sparsity(left) == pytest.approx(0.75, abs=0.01)
        assert weight[left != 0].abs().min() >= weight[left == 0].abs().max()
        assert torch.equal(left[left != 0], weight[left != 0])
    assert result.module.shared.weight is result.module.tied.weight
    assert result.metrics["kept_whole"] == {
        "normed": "its weight is computed from others", "out": "skipped by the recipe"
    }  # fmt: skip
    assert all(torch.equal(value, before[name]) for name, value in odd.state_dict().items()), "changed"
    assert result.module(torch.randn(2, 4, 6, 6)).shape == (2, 3)


def test_all_layers_compete_and_none_vanishes(odd):
    with torch.no_grad():
        odd.again.weight *= 1e-3
    result = prune(odd, ratio=0.8, scope="global")
    layers = result.metrics["layers"]
    assert result.metrics["sparsity"][1] == pytest.approx(0.8, abs=0.01)
    assert 0.98 < layers["again"][1] < 1
    assert layers["out"][1] < 0.7


@pytest.mark.parametrize("pattern", [(2, 4), (1, 2), (3, 4)])
def test_n_of_every_m_weights_along_the_inputs_are_left(odd, pattern):
    n, m = pattern
    result = prune(odd, pattern=pattern)
    for name in ("first", "up", "lstm.weight_hh_l0"):
        assert result.metrics["layers"][name][1] == pytest.approx(1 - n / m, abs=1e-4)
    rows = result.module.first.weight.permute(0, 2, 3, 1).reshape(-1, m)
    assert bool(((rows != 0).sum(1) == n).all())
    rows = result.module.up.weight.permute(1, 2, 3, 0).reshape(-1, m)
    assert bool(((rows != 0).sum(1) == n).all())
    assert result.metrics["kept_whole"]["depthwise"] == f"1 inputs are no multiple of {m}"


@pytest.mark.parametrize(
    "options",
    [
        {"ratio": 0.7, "schedule": "gradual"},
        {"pattern": (2, 4), "criterion": "movement"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_the_digits_network_keeps_its_accuracy(teacher, data, inputs, options, tmp_path):
    result = prune(teacher, Context(inputs, data), fine_tune=Train(epochs=4, lr=2e-3), **options)
    wanted = options.get("ratio", 0.5)
    assert result.metrics["sparsity"][1] == pytest.approx(wanted, abs=0.03)
    accuracy = result.metrics["score"]
    assert accuracy["fine_tune"] >= accuracy["before"] - 0.03
    assert not result.module.training
    save(result.module, tmp_path / "m.safetensors")
    restored = restore(digits.network(), tmp_path / "m.safetensors", {}).module
    assert all(
        torch.equal(value, result.module.state_dict()[name]) for name, value in restored.state_dict().items()
    )


def test_weights_that_an_earlier_step_pruned_stay_zero(teacher, data, inputs):
    context = Context(inputs, data)
    first = prune(teacher, context, ratio=0.5).module
    options = {"ratio": 0.7, "criterion": "movement", "fine_tune": Train(epochs=1)}
    second = prune(first, context, **options).module
    again = prune(first, context, **options).module
    for (name, weight), other, before in zip(
        second.named_parameters(), again.parameters(), first.parameters(), strict=True
    ):
        assert torch.equal(weight, other), "not deterministic"
        if weight.dim() > 1:
            assert not bool(((before == 0) & (weight != 0)).any()), name


def test_options_that_contradict_each_other_or_change_nothing(odd):
    for options, message in (
        ({}, "expected ratio or pattern"),
        ({"ratio": 0.5, "pattern": (2, 4)}, "not both"),
        ({"pattern": (4, 4)}, "N below M"),
        ({"pattern": (2, 4), "scope": "global"}, "in each layer"),
        ({"ratio": 0.5, "criterion": "movement"}, "add fine_tune"),
        ({"ratio": 0.5, "schedule": "gradual"}, "add fine_tune"),
    ):
        with pytest.raises(InputError, match=message):
            prune(odd, **options)
    with pytest.raises(InputError, match=r"changes nothing: 80\.0% of the weights are zero, as before"):
        prune(prune(odd, ratio=0.8).module, ratio=0.5)
    with pytest.raises(InputError, match="no weights that it can prune"):
        prune(nn.Sequential(nn.ReLU()), ratio=0.5)
    with pytest.raises(InputError, match="no layer matches 'frist'; did you mean 'first'"):
        prune(odd, ratio=0.5, skip=("frist",))


def test_sensitive_layers_keep_their_weights(teacher, data, inputs):
    context = Context(inputs, data)
    step = PruneWeights(method="prune-weights", ratio=0.75, skip=8.0)
    result = prune_weights.apply(teacher, step, context)
    sensitive = {
        name: why for name, why in result.metrics["kept_whole"].items() if why.startswith("sensitive")
    }
    assert "stem.0" in sensitive
    assert "last.0" in result.metrics["layers"]
    assert not sensitive.keys() & result.metrics["layers"].keys()
    assert [need.option for need in prune_weights.METHOD.needs(step)] == ["skip"]


def test_weights_of_a_recurrent_layer_that_are_computed_are_said_to_be_left(odd):
    nn.utils.parametrizations.weight_norm(odd.lstm, "weight_hh_l0")
    metrics = prune(odd, ratio=0.5).metrics
    assert metrics["kept_whole"]["lstm.weight_hh_l0"] == metrics["kept_whole"]["normed"]
    assert "lstm.weight_ih_l0" in metrics["layers"]
