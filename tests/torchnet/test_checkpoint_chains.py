"""Layers that are replaced and pruned in any order are restored from a checkpoint, bit by bit."""

import copy
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from edgepack.compression import prune_channels
from edgepack.compression.method import Context
from edgepack.compression.prune_channels import PruneChannels
from edgepack.errors import InputError
from edgepack.spec import Input, Model
from edgepack.torchnet import checkpoint
from edgepack.torchnet.checkpoint import Change, Structure
from edgepack.torchnet.source import load_source

INPUTS = (Input(name="x", shape=(1, 3, 8, 8)),)
NET = """\
from torch import nn

def network():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 4),
    )
"""


class FakeQuantLinear(nn.Linear):
    """Typical for quantization-aware training: a linear layer with its own per-channel scale."""

    def __init__(self, features, outputs):
        super().__init__(features, outputs)
        self.scale = nn.Parameter(torch.ones(outputs))
        self.register_buffer("seen", torch.zeros(features))

    def forward(self, x):
        steps = self.weight / self.scale[:, None] * 16
        return functional.linear(x, steps.round() / 16 * self.scale[:, None], self.bias) + 0 * self.seen.sum()


class FakeQuantConv(nn.Conv2d):
    """A convolution whose weights are rounded."""

    def forward(self, x):
        return self._conv_forward(x, (self.weight * 16).round() / 16, self.bias)


class Factors(nn.Module):
    """A low-rank layer with its own parameters: not a torch layer."""

    def __init__(self, features, outputs, rank):
        super().__init__()
        self.first = nn.Parameter(torch.randn(rank, features))
        self.second = nn.Parameter(torch.randn(outputs, rank))

    def forward(self, x):
        return x @ self.first.T @ self.second.T


def replace(module, name, new):
    parent, _, own = name.rpartition(".")
    setattr(module.get_submodule(parent), own, new.eval())


def fake_quantize(module, record):
    for name in record["layers"]:
        old = module.get_submodule(name)
        if isinstance(old, nn.Linear):
            replace(module, name, FakeQuantLinear(old.in_features, old.out_features))
        else:
            replace(
                module,
                name,
                FakeQuantConv(
                    old.in_channels,
                    old.out_channels,
                    old.kernel_size,
                    stride=old.stride,
                    padding=old.padding,
                ),
            )
    return module


def factor(module, record):
    for name, rank in record.items():
        old = module.get_submodule(name)
        replace(module, name, Factors(old.in_features, old.out_features, rank))
    return module


def pair(module, record):
    for name, rank in record.items():
        old = module.get_submodule(name)
        thin = nn.Sequential(nn.Linear(old.in_features, rank, bias=False), nn.Linear(rank, old.out_features))
        replace(module, name, thin)
    return module


def trim(module, record):
    """Remove two input features of fake-quantized layers, as a method that prunes its own layer class does."""
    for name in record["layers"]:
        layer = module.get_submodule(name)
        replace(
            module, name, nn.Sequential(Front(), FakeQuantLinear(layer.in_features - 2, layer.out_features))
        )
    return module


class Front(nn.Module):
    """Return all channels but the last two."""

    def forward(self, x):
        return x[:, :-2]


REBUILD = {"fake-quantize": fake_quantize, "factor": factor, "pair": pair, "trim": trim}


def source():
    names = {}
    exec(NET, names)  # noqa: S102 - the text above
    return names["network"]().eval()


def randomise(module, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module


def layers(module, kinds):
    return [name for name, layer in module.named_modules() if type(layer) in kinds]


def applied(module, changes, step):
    """Apply a step to a module; returns the module and its changes, as the pipeline's stage does."""
    kind, seed = step
    found = Structure.of(module)
    if kind == "prune":
        spec = PruneChannels(method="prune-channels", ratio=0.25 + 0.05 * (seed % 6))
        try:
            return prune_channels.apply(module, spec, Context(INPUTS)).module, changes
        except InputError:  # nothing left to prune
            return module, changes
    kinds = {"fake-quantize": (nn.Linear, nn.Conv2d), "trim": (FakeQuantLinear,)}.get(kind, (nn.Linear,))
    names = layers(module, kinds)
    if not names:
        return module, changes
    name = names[seed % len(names)]
    record = {"layers": [name]} if kind in {"fake-quantize", "trim"} else {name: 1 + seed % 5}
    made = REBUILD[kind](copy.deepcopy(module), record)
    return randomise(made, seed).eval(), (*changes, Change(kind, record, found))


def outputs(module):
    with torch.no_grad():
        return module(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)))


STEPS = st.tuples(
    st.sampled_from(("prune", "prune", "fake-quantize", "factor", "pair", "trim")), st.integers(0, 30)
)


@given(steps=st.lists(STEPS, min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_any_chain_is_restored_bit_for_bit_also_as_the_weights_of_a_new_recipe(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("chain")
    (folder / "chained_net.py").write_text(NET)
    module, changes = randomise(source(), 0), ()
    for number, step in enumerate(steps):
        module, changes = applied(module, changes, step)
        path = folder / f"{number}.safetensors"
        checkpoint.save(module, path, changes)
        found = checkpoint.restore(source(), path, REBUILD)
        assert torch.equal(outputs(found.module), outputs(module))
        module, changes = found.module, found.changes  # the next stage starts from these
    model = Model(source="chained_net:network", weights=path.name)
    loaded = load_source(model, folder, REBUILD)
    assert torch.equal(outputs(loaded.module), outputs(module))
    checkpoint.save(loaded.module, folder / "again.safetensors", loaded.changes)
    assert (folder / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("kind", ["fake-quantize", "factor", "pair"])
def test_a_layer_replaced_after_pruning_comes_back_at_its_pruned_size(kind, tmp_path):
    module, changes = applied(randomise(source(), 0), (), ("prune", 3))
    module, changes = applied(module, changes, (kind, 2))
    checkpoint.save(module, tmp_path / "m.safetensors", changes)
    found = checkpoint.restore(source(), tmp_path / "m.safetensors", REBUILD)
    assert torch.equal(outputs(found.module), outputs(module))


def test_a_subclass_that_its_own_method_shrinks_in_place_needs_no_change(tmp_path):
    """Sizes and all tensors of the layer are resized, including parametrizations and scales."""
    base, record = source(), {"layers": ["7", "9"]}
    changes = (Change("fake-quantize", record, Structure.of(base)),)
    module = randomise(fake_quantize(base, record), 4)
    first, second = module[7], module[9]
    first.out_features = second.in_features = 20
    first.weight, first.bias = nn.Parameter(first.weight[:20]), nn.Parameter(first.bias[:20])
    first.scale = nn.Parameter(first.scale[:20])
    second.weight, second.seen = nn.Parameter(second.weight[:, :20]), second.seen[:20]
    checkpoint.save(module, tmp_path / "m.safetensors", changes)
    found = checkpoint.restore(source(), tmp_path / "m.safetensors", REBUILD).module
    assert torch.equal(outputs(found), outputs(module))
    assert (found[7].out_features, found[9].in_features) == (20, 20)

    plain = source()
    nn.utils.parametrizations.weight_norm(plain[7])
    small = copy.deepcopy(plain)
    small[7].out_features, small[9].in_features = 20, 20
    small[7].bias = nn.Parameter(small[7].bias[:20])
    small[9].weight = nn.Parameter(small[9].weight[:, :20])
    weights = small[7].parametrizations.weight
    weights.original0, weights.original1 = (
        nn.Parameter(v[:20]) for v in (weights.original0, weights.original1)
    )
    checkpoint.save(small, tmp_path / "n.safetensors")
    assert torch.equal(
        outputs(checkpoint.restore(plain, tmp_path / "n.safetensors", {}).module), outputs(small)
    )


def version_2(module, changes):
    """The record of a checkpoint as written by edgepack 0.2."""
    record = {
        "checkpoint": 2,
        "changes": [{"method": change.method, "record": change.record} for change in changes],
        "sizes": Structure.of(module).sizes,
    }
    return {"edgepack": json.dumps(record)}


def test_a_checkpoint_of_version_2_is_read_changed_further_and_written_again(tmp_path):
    """Replaced first, then pruned, which version 2 could restore."""
    module, changes = applied(randomise(source(), 0), (), ("pair", 1))
    module, changes = applied(module, changes, ("prune", 1))
    save_file(module.state_dict(), tmp_path / "old.safetensors", version_2(module, changes))
    old = checkpoint.restore(source(), tmp_path / "old.safetensors", REBUILD)
    assert torch.equal(outputs(old.module), outputs(module))
    assert old.changes[0].before is None
    module, changes = applied(old.module, old.changes, ("fake-quantize", 3))
    checkpoint.save(module, tmp_path / "new.safetensors", changes)
    found = checkpoint.restore(source(), tmp_path / "new.safetensors", REBUILD)
    assert found.changes == changes
    assert torch.equal(outputs(found.module), outputs(module))


FOUND = {"sizes": {"0": {"in_features": 4, "out_features": 2}}, "shapes": {"0.weight": [2, 4], "0.bias": [2]}}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("sizes",), 3),
        (("shapes",), None),
        (("sizes", "0"), [4, 2]),
        (("sizes", "0", "in_features"), -1),
        (("sizes", "0", "in_features"), True),
        (("sizes", "0", "training"), 1),
        (("shapes", "0.weight"), 8),
        (("shapes", "0.weight"), ["2", 4]),
    ],
)
def test_a_broken_record_of_what_a_change_found_is_refused(path, value, tmp_path):
    found = copy.deepcopy(FOUND)
    inner = found
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    module = nn.Sequential(nn.Linear(4, 2))
    changes = [{"method": "pair", "record": {}, "found": found}]
    record = {"checkpoint": 3, "changes": changes, "sizes": FOUND["sizes"]}
    save_file(module.state_dict(), tmp_path / "w.safetensors", {"edgepack": json.dumps(record)})
    with pytest.raises(InputError, match="record of changes is corrupt"):
        checkpoint.restore(module, tmp_path / "w.safetensors", REBUILD)


def test_what_a_change_found_and_is_not_in_the_source_is_named(tmp_path):
    found = Structure({"fc": {"in_features": 4, "out_features": 2}}, {})
    module = nn.Sequential(nn.Linear(4, 2))
    checkpoint.save(module, tmp_path / "w.safetensors", [Change("pair", {}, found)])
    with pytest.raises(InputError, match="layer 'fc' is not in Sequential"):
        checkpoint.restore(module, tmp_path / "w.safetensors", REBUILD)
    huge = Structure({"0": {"in_features": 2**60, "out_features": 2}}, {"0.weight": (2, 2**60)})
    checkpoint.save(module, tmp_path / "h.safetensors", [Change("pair", {}, huge)])
    with pytest.raises(InputError, match="record of layer sizes is corrupt"):
        checkpoint.restore(module, tmp_path / "h.safetensors", REBUILD)
