"""Layers of lower rank: at full rank they compute the same, at a lower one what their factors say."""

import copy
import itertools

import pytest
import torch
from torch import nn

from edgepack.export import parity, to_onnx
from edgepack.spec import Input
from edgepack.torchnet.layers import count_module
from edgepack.torchnet.lowrank.factors import Cp, Svd, Tucker2, product
from edgepack.torchnet.lowrank.forms import FORMS, Choice, RankUse, build, fill
from edgepack.torchnet.lowrank.network import Factorable, rebuild


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # small matrices: threads cost more than they bring
    yield
    torch.set_num_threads(before)


def seeded(function, *args, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return function(*args, **options).eval()


LAYERS = {
    "linear": (lambda: nn.Linear(12, 7), (3, 12)),
    "tokens": (lambda: nn.Linear(12, 7, bias=False), (2, 5, 12)),
    "conv": (lambda: nn.Conv2d(6, 8, 3, padding=1), (2, 6, 9, 9)),
    "strided": (lambda: nn.Conv2d(6, 8, (3, 5), (2, 1), (1, 2), bias=False), (1, 6, 9, 11)),
    "dilated": (lambda: nn.Conv2d(6, 8, 3, padding="same", dilation=2), (1, 6, 9, 9)),
    "reflected": (lambda: nn.Conv2d(6, 8, 3, padding=1, padding_mode="reflect"), (1, 6, 9, 9)),
    "signal": (lambda: nn.Conv1d(6, 8, 5, 2, 2), (1, 6, 20)),
    "volume": (lambda: nn.Conv3d(4, 5, 3, padding=1), (1, 4, 5, 6, 4)),
    "pointwise": (lambda: nn.Conv2d(6, 8, 1, 2, 1), (1, 6, 9, 9)),
}


@pytest.mark.parametrize("whitened", [False, True])
@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in LAYERS for kind in FORMS if kind == "svd" or name not in {"linear", "tokens"}],
)
def test_each_form_at_full_rank_computes_the_same(name, kind, whitened):
    make, shape = LAYERS[name]
    layer, x = seeded(make), torch.randn(shape, generator=torch.Generator().manual_seed(1))
    channels = layer.weight.shape[1]
    rows = torch.randn(50, channels, generator=torch.Generator().manual_seed(2)).double()
    use = RankUse(
        read=1,
        written=1,
        steps=[1] * (layer.weight.dim() - 2),
        moments=rows.T @ rows / 50 if whitened else None,
    )
    form = FORMS[kind](layer.weight, use)
    new = build(layer, kind, form.full)
    fill(new, form.factors(form.full), layer.bias)
    tolerance = 2e-2 if kind == "cp" else 1e-5  # CP is found by iteration
    assert torch.allclose(new(x), layer(x), atol=tolerance, rtol=tolerance)


def test_decompositions_find_the_rank_that_is_there():
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    assert Svd.of((random(9, 2) @ random(2, 30)).reshape(9, 10, 3)).kept()[1] == pytest.approx(1)
    core, first, last = random(2, 3, 9), random(3, 10), random(8, 2)
    kept = Tucker2.of(torch.einsum("os,srk,ri->oik", last, core, first)).kept()
    assert kept[1, 2] == pytest.approx(1)
    assert kept[0, 2] < 0.999 > kept[1, 1]
    found = Cp.of(product([random(8, 2), random(10, 2), random(3, 2), random(3, 2)]), 2)
    assert found.kept == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("kind", ["svd", "tucker", "cp"])
def test_a_choice_costs_what_the_new_layers_cost(kind):
    for name in ("conv", "strided", "signal", "volume"):
        make, shape = LAYERS[name]
        layer = nn.Sequential(seeded(make))
        network = Factorable(layer, (torch.randn(shape),), kind)
        network.measure()
        form = network.forms["0"]
        assert form.whole == count_module(layer, (torch.randn(shape),)).macs
        for choice in (form.at(2), *form.choices()[-1:]):
            new, _ = network.replaced({"0": choice})
            assert count_module(new, (torch.randn(shape),)).macs == choice.macs


def test_choices_are_cheaper_than_the_layer_and_get_better_with_their_cost():
    form = FORMS["tucker"](
        torch.randn(16, 12, 3, 3, generator=torch.Generator().manual_seed(0)), RankUse(64, 64, [64, 64])
    )
    choices = form.choices()
    assert len(choices) > 10
    assert all(a.macs < b.macs < form.whole and a.energy < b.energy for a, b in itertools.pairwise(choices))


class Recurrent(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.recurrent = kind(10, 6, batch_first=True, **options)

    def forward(self, x, state=None):
        y, final = self.recurrent(x, state)
        return (y, *(final if isinstance(final, tuple) else (final,)))


@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False, "num_layers": 2}]
)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_get_a_projection_of_their_inputs(kind, options, tmp_path):
    module = seeded(Recurrent, kind, **options)
    x = torch.randn(2, 7, 10, generator=torch.Generator().manual_seed(1))
    network = Factorable(module, (x,), "tucker")
    assert list(network.names) == [f"recurrent.weight_ih_l{i}" for i in range(options.get("num_layers", 1))]
    assert network.names["recurrent.weight_ih_l0"] == ("recurrent.weight_ih_l0", "recurrent")
    network.measure()
    whole = {name: form.at(form.full[0]) for name, form in network.forms.items()}
    same, change = network.replaced(whole)
    state = torch.randn(options.get("num_layers", 1) * (2 if "bidirectional" in options else 1), 2, 6)
    state = (state, state / 2) if kind is nn.LSTM else state
    for given in ((x,), (x, state)):
        for got, want in zip(same(*given), module(*given), strict=True):
            assert torch.allclose(got, want, atol=1e-5)
    again = rebuild(copy.deepcopy(module), change)
    again.load_state_dict(same.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(again(x), same(x), strict=True))
    thin, _ = network.replaced({"recurrent.weight_ih_l0": Choice((2,), 0, 0)})
    saved = 14 * 10 * module.recurrent.weight_ih_l0.shape[0] * (2 if "bidirectional" in options else 1)
    paid = 14 * 2 * (10 + saved // 140)
    before, after = (count_module(each, (x,)).macs for each in (module, thin))
    assert before - after == saved - paid
    if kind is nn.LSTM and "bidirectional" in options:
        path = to_onnx(thin, (Input(name="x", shape=(2, 7, 10)),), tmp_path / "thin.onnx")
        assert parity(thin, path, [x.numpy()]) < 1e-4


def test_packed_sequences_are_projected_too():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(10, 6, num_layers=2)

        def forward(self, x):
            packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3]))
            return nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0])[0]

    module, x = seeded(Packed), torch.randn(5, 2, 10)
    network = Factorable(module, (x,), "tucker")
    network.measure()
    same, _ = network.replaced({name: form.at(99) for name, form in network.forms.items()})
    assert torch.allclose(same(x), module(x), atol=1e-5)


class Odd(nn.Module):
    """What cannot be factored, or only together."""

    def __init__(self):
        super().__init__()
        self.used_twice = nn.Linear(16, 16)
        self.alias = self.used_twice
        self.tied = nn.Linear(16, 16)
        self.tied_too = nn.Linear(16, 16)
        self.tied_too.weight = self.tied.weight
        self.functional = nn.Linear(16, 16)
        self.unused = nn.Linear(16, 16)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(16, 16))
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.grouped = nn.Conv1d(16, 16, 3, groups=4)

    def forward(self, x):
        x = self.alias(torch.relu(self.used_twice(x)))
        x = self.tied_too(self.tied(x))
        x = nn.functional.linear(x, self.functional.weight)
        x = self.attention(self.normed(x), x, x)[0]
        return self.grouped(x.transpose(1, 2))


def test_layers_that_are_used_in_other_ways_stay_whole_and_say_why():
    module, x = seeded(Odd), torch.randn(1, 5, 16)
    network = Factorable(module, (x,), "tucker")
    assert network.names == {"used_twice": ("used_twice",)}
    assert {
        "tied": "its weights are shared with another layer",
        "functional": "forward() does not call it",
        "unused": "forward() does not call it",
        "normed": "it is computed by _WeightNorm",
        "grouped": "its channels are in groups",
    }.items() <= network.kept.items()
    assert network.kept["attention.out_proj"].startswith("its class NonDynamicallyQuantizableLinear")
    network.measure()
    assert network.forms["used_twice"].whole == 2 * 5 * 16 * 16, "both calls count"
    same, change = network.replaced({"used_twice": network.forms["used_twice"].at(16)})
    assert same.alias is same.used_twice
    assert torch.allclose(same(x), module(x), atol=1e-5)
    again = rebuild(seeded(Odd), change)
    assert again.alias is again.used_twice
    assert again.state_dict().keys() == same.state_dict().keys()
