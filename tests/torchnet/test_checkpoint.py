"""Checkpoints: saved models are restored, and mismatches are reported."""

import json
import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from edgepack.compression import prune_channels
from edgepack.compression.method import Context
from edgepack.compression.prune_channels import PruneChannels
from edgepack.errors import InputError, TrustError
from edgepack.spec import Model
from edgepack.torchnet import checkpoint
from edgepack.torchnet import source as sources
from edgepack.zoo import digits


@pytest.fixture
def project(tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def network():\n    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))\n"
        "def broken():\n    raise ValueError('no such backbone')\n"
        "def number():\n    return 3\n"
        "constant = 3\n"
    )
    return tmp_path


def source(**fields):
    return Model(**{"source": "net:network", **fields})


def load_source(model, base):
    return sources.load_source(model, base, {}).module


def restore(module, path):
    return checkpoint.restore(module, path, {}).module


def test_a_pruned_model_is_restored_onto_its_source(teacher, inputs, tmp_path):
    step = PruneChannels(method="prune-channels", ratio=0.5)
    pruned = prune_channels.apply(teacher, step, Context(inputs)).module
    path = tmp_path / "pruned.safetensors"
    checkpoint.save(pruned, path)
    restored = restore(digits.network(), path)
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(restored(x), pruned(x))
    assert restored.residual.first[0].out_channels == 16
    assert restored.depthwise[0].groups == 16
    again = prune_channels.apply(restored, step, Context(inputs)).module
    assert again.depthwise[0].groups == 8


def test_the_same_model_is_the_same_file_and_holds_no_pickle(teacher, tmp_path):
    for name in ("a", "b"):
        checkpoint.save(teacher, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
    with safe_open(tmp_path / "a", framework="pt") as file:
        assert json.loads(file.metadata()["edgepack"])["sizes"]["stem.0"] == {
            "groups": 1,
            "in_channels": 1,
            "out_channels": 32,
        }


def test_tied_weights_survive(tmp_path):
    def build():
        module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        module[1].weight = module[0].weight
        return module

    module = build()
    checkpoint.save(module, tmp_path / "tied")
    (tmp_path / "tied").rename(tmp_path / "tied.safetensors")
    restored = restore(build(), tmp_path / "tied.safetensors")
    assert restored[1].weight is restored[0].weight
    assert torch.equal(restored[0].weight, module[0].weight)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_of_either_kind_are_loaded(project, suffix):
    weights = load_source(source(), project).state_dict()
    path = project / f"w{suffix}"
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    loaded = load_source(source(weights=path.name), project)
    assert all(torch.equal(weights[name], value) for name, value in loaded.state_dict().items())
    assert not loaded.training


def test_weights_that_do_not_fit_name_keys_and_shapes(project):
    state = load_source(source(), project).state_dict()
    state["0.weight"] = torch.zeros(8, 5)
    state["head.weight"] = state.pop("2.weight")
    save_file(state, project / "w.safetensors")
    with pytest.raises(InputError, match="the weights do not match Sequential") as caught:
        load_source(source(weights="w.safetensors"), project)
    assert caught.value.why == (
        "missing: 2.weight; unexpected: head.weight; "
        "wrong shape: 0.weight is [8, 5] in the file and [8, 4] in the model"
    )


class Payload:
    def __reduce__(self):
        return (print, ("code from a weights file ran",))


def test_a_pickle_in_a_weights_file_is_refused_and_not_run(project, capsys):
    torch.save({"0.weight": Payload()}, project / "w.pt")
    (project / "bare.pth").write_bytes(pickle.dumps(Payload()))
    for name in ("w.pt", "bare.pth"):
        with pytest.raises((TrustError, InputError)):
            load_source(source(weights=name), project)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.safetensors", b"", "empty"),
        ("w.pt", b"", "empty"),
        ("w.safetensors", b"\x08\0\0\0\0\0\0\0garbage!", "not safetensors"),
        ("w.safetensors", b"x" * 100, "a text file that begins with 'xxx"),
        ("w.pt", b"PK\x03\x04 cut off", "a truncated zip archive"),
        ("w.pt", b"not a pickle at all", "a text file"),
        ("w.pt", b"\x90 nothing known", "corrupt"),
        ("w.bin", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
def test_broken_weights_files_are_named(project, name, content, message):
    (project / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_source(source(weights=name), project)
    assert caught.value.where == str(project / name)


def test_a_missing_weights_file_and_a_whole_saved_model_are_refused(project):
    with pytest.raises(InputError, match="no such weights file"):
        load_source(source(weights="w.pt"), project)
    torch.save({"weights": [1, 2]}, project / "w.pt")
    with pytest.raises(InputError, match="not a state_dict of tensors"):
        load_source(source(weights="w.pt"), project)


def test_weights_that_are_not_numbers_are_refused(project):
    state = load_source(source(), project).state_dict()
    state["2.bias"] = torch.tensor([float("nan"), 0.0])
    save_file(state, project / "w.safetensors")
    with pytest.raises(InputError, match=r"NaN or infinite: 2\.bias"):
        load_source(source(weights="w.safetensors"), project)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nett:network", "no module 'nett'"),
        ("net:netwrok", "has no 'netwrok'; did you mean 'network'"),
        ("net:broken", "net:broken failed"),
        ("net:number", "returned a int, not a torch"),
        ("net:constant", "not a callable"),
    ],
)
def test_sources_that_cannot_be_used(project, reference, message):
    with pytest.raises(InputError, match=message):
        load_source(Model(source=reference), project)


def test_a_checkpoint_of_another_network_is_refused(teacher, tmp_path):
    checkpoint.save(teacher, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="'classifier' is not in Sequential"):
        restore(nn.Sequential(nn.Linear(4, 2)), tmp_path / "w.safetensors")


class Shared(nn.Module):
    """A linear layer whose weights are entries of a codebook: not one of torch's own layers."""

    def __init__(self, entries, shape):
        super().__init__()
        self.codebook = nn.Parameter(torch.linspace(-1, 1, entries))
        self.register_buffer(
            "codes", torch.randint(entries, shape, generator=torch.Generator().manual_seed(0))
        )

    def forward(self, x):
        return x @ self.codebook[self.codes].T


def low_rank(module, record):
    """Replace linear layers by pairs of thinner ones."""
    for name, rank in record.items():
        layer = module.get_submodule(name)
        pair = nn.Sequential(
            nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features)
        )
        setattr(module.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], pair)
    return module


def share(module, record):
    for name, fields in record.items():
        setattr(module.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], Shared(**fields))
    return module


REBUILD = {"low-rank": low_rank, "share": share}


def test_replaced_layers_come_back_with_those_that_were_pruned_before_and_after(teacher, inputs, tmp_path):
    step = PruneChannels(method="prune-channels", ratio=0.5)
    pruned = prune_channels.apply(teacher, step, Context(inputs)).module
    changes = [checkpoint.Change("low-rank", {"classifier": 4})]
    thin = low_rank(pruned, changes[0].record)
    again = prune_channels.apply(
        thin, PruneChannels(method="prune-channels", ratio=0.25), Context(inputs)
    ).module
    assert again.classifier[0].in_features == 24
    assert again.classifier[0].out_features == 3
    path = tmp_path / "m.safetensors"
    checkpoint.save(again, path, changes)
    found = checkpoint.restore(digits.network(), path, REBUILD)
    assert found.changes == tuple(changes)
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(found.module(x), again(x))


def test_changes_of_several_methods_are_made_again_in_order(tmp_path):
    def build():
        return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))

    changes = [
        checkpoint.Change("low-rank", {"0": 3}),
        checkpoint.Change("share", {"0.1": {"entries": 4, "shape": [5, 3]}}),
    ]
    module = build()
    for change in changes:
        module = REBUILD[change.method](module, change.record)
    with torch.no_grad():
        module[0][1].codebook.normal_()
    checkpoint.save(module, tmp_path / "m.safetensors", changes)
    found = checkpoint.restore(build(), tmp_path / "m.safetensors", REBUILD)
    x = torch.randn(4, 6)
    with torch.no_grad():
        assert torch.equal(found.module(x), module(x))
    assert not found.module.training
    checkpoint.save(found.module, tmp_path / "again.safetensors", found.changes)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "m.safetensors").read_bytes()


def test_changed_weights_of_the_users_bring_their_changes(project, tmp_path):
    module = low_rank(load_source(source(), project), {"0": 2})
    checkpoint.save(module, project / "thin.safetensors", [checkpoint.Change("low-rank", {"0": 2})])
    found = sources.load_source(source(weights="thin.safetensors"), project, REBUILD)
    assert [change.method for change in found.changes] == ["low-rank"]
    assert found.module[0][0].out_features == 2


def test_a_change_that_cannot_be_made_again_says_why(tmp_path):
    path = tmp_path / "m.safetensors"
    module = low_rank(nn.Sequential(nn.Linear(6, 5)), {"0": 3})
    checkpoint.save(module, path, [checkpoint.Change("low-rank", {"0": 3})])
    with pytest.raises(InputError, match="low-rank, which is not available here") as caught:
        checkpoint.restore(nn.Sequential(nn.Linear(6, 5)), path, {})
    assert "install" in caught.value.next
    with pytest.raises(InputError, match="cannot be repeated on ReLU") as caught:
        checkpoint.restore(nn.ReLU(), path, REBUILD)
    assert "AttributeError" in caught.value.why


def test_a_checkpoint_of_version_1_is_read(tmp_path):
    record = json.dumps({"checkpoint": 1, "sizes": {"0": {"in_features": 4, "out_features": 3}}})
    tensors = {"0.weight": torch.ones(3, 4), "0.bias": torch.zeros(3)}
    save_file(tensors, tmp_path / "old.safetensors", {"edgepack": record})
    assert restore(nn.Sequential(nn.Linear(4, 2)), tmp_path / "old.safetensors")[0].out_features == 3
    save_file(tensors, tmp_path / "new.safetensors", {"edgepack": record.replace(": 1", ": 4")})
    with pytest.raises(InputError, match="version 4 is not supported"):
        restore(nn.Sequential(nn.Linear(4, 2)), tmp_path / "new.safetensors")


@pytest.mark.parametrize("changes", ["3", '["low-rank"]', '[{"method": "low-rank"}]', '[{"record": {}}]'])
def test_a_broken_record_of_changes_is_refused(tmp_path, changes):
    record = f'{{"checkpoint": 2, "changes": {changes}, "sizes": {{}}}}'
    module = nn.Sequential(nn.Linear(4, 2))
    save_file(module.state_dict(), tmp_path / "w.safetensors", {"edgepack": record})
    with pytest.raises(InputError, match="record of changes is corrupt"):
        checkpoint.restore(module, tmp_path / "w.safetensors", REBUILD)


@pytest.mark.parametrize(
    "record", ["{", "[]", "{}", '{"checkpoint": 1}', '{"checkpoint": 1, "sizes": {"0": 3}}']
)
def test_a_checkpoint_with_a_broken_record_is_refused(tmp_path, record):
    module = nn.Sequential(nn.Linear(4, 2))
    save_file(module.state_dict(), tmp_path / "w.safetensors", {"edgepack": record})
    with pytest.raises(InputError, match="record of layer sizes is corrupt"):
        restore(module, tmp_path / "w.safetensors")


def test_state_that_is_not_tensors_cannot_be_saved(tmp_path):
    class Odd(nn.Linear):
        def get_extra_state(self):
            return {"epoch": 3}

    with pytest.raises(InputError, match="_extra_state"):
        checkpoint.save(Odd(2, 2), tmp_path / "w.safetensors")
