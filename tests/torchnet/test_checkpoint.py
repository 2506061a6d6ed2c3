"""Models on disk: what is saved comes back, and what does not fit says so."""

import json
import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from edgepack.compress import prune_channels
from edgepack.compress.method import Context
from edgepack.compress.prune_channels import PruneChannels
from edgepack.errors import InputError
from edgepack.spec import Model
from edgepack.torchnet import checkpoint
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


def test_a_pruned_model_is_restored_onto_its_source(teacher, inputs, tmp_path):
    step = PruneChannels(method="prune-channels", ratio=0.5)
    pruned = prune_channels.apply(teacher, step, Context(inputs)).module
    path = tmp_path / "pruned.safetensors"
    checkpoint.save(pruned, path)
    restored = checkpoint.restore(digits.network(), path)
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
    restored = checkpoint.restore(build(), tmp_path / "tied.safetensors")
    assert restored[1].weight is restored[0].weight
    assert torch.equal(restored[0].weight, module[0].weight)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_of_either_kind_are_loaded(project, suffix):
    weights = checkpoint.load_source(source(), project).state_dict()
    path = project / f"w{suffix}"
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    loaded = checkpoint.load_source(source(weights=path.name), project)
    assert all(torch.equal(weights[name], value) for name, value in loaded.state_dict().items())
    assert not loaded.training


def test_weights_that_do_not_fit_name_keys_and_shapes(project):
    state = checkpoint.load_source(source(), project).state_dict()
    state["0.weight"] = torch.zeros(8, 5)
    state["head.weight"] = state.pop("2.weight")
    save_file(state, project / "w.safetensors")
    with pytest.raises(InputError, match="do not fit Sequential") as caught:
        checkpoint.load_source(source(weights="w.safetensors"), project)
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
        with pytest.raises(InputError):
            checkpoint.load_source(source(weights=name), project)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.safetensors", b"", "empty"),
        ("w.pt", b"", "empty"),
        ("w.safetensors", b"\x08\0\0\0\0\0\0\0garbage!", "not safetensors"),
        ("w.safetensors", b"x" * 100, "not safetensors"),
        ("w.pt", b"PK\x03\x04 cut off", "corrupt"),
        ("w.pt", b"not a pickle at all", "corrupt"),
        ("w.bin", b"anything", "not known"),
    ],
)
def test_broken_weights_files_are_named(project, name, content, message):
    (project / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        checkpoint.load_source(source(weights=name), project)
    assert caught.value.where == str(project / name)


def test_a_missing_weights_file_and_a_whole_saved_model_are_refused(project):
    with pytest.raises(InputError, match="no such weights file"):
        checkpoint.load_source(source(weights="w.pt"), project)
    torch.save({"weights": [1, 2]}, project / "w.pt")
    with pytest.raises(InputError, match="not a state_dict of tensors"):
        checkpoint.load_source(source(weights="w.pt"), project)


def test_weights_that_are_not_numbers_are_refused(project):
    state = checkpoint.load_source(source(), project).state_dict()
    state["2.bias"] = torch.tensor([float("nan"), 0.0])
    save_file(state, project / "w.safetensors")
    with pytest.raises(InputError, match=r"NaN or infinite: 2\.bias"):
        checkpoint.load_source(source(weights="w.safetensors"), project)


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
        checkpoint.load_source(Model(source=reference), project)


def test_a_checkpoint_of_another_network_is_refused(teacher, tmp_path):
    checkpoint.save(teacher, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="'classifier' is not in Sequential"):
        checkpoint.restore(nn.Sequential(nn.Linear(4, 2)), tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "record", ["{", "[]", "{}", '{"checkpoint": 1}', '{"checkpoint": 1, "sizes": {"0": 3}}']
)
def test_a_checkpoint_with_a_broken_record_is_refused(tmp_path, record):
    module = nn.Sequential(nn.Linear(4, 2))
    save_file(module.state_dict(), tmp_path / "w.safetensors", {"edgepack": record})
    with pytest.raises(InputError, match="record of layer sizes is corrupt"):
        checkpoint.restore(module, tmp_path / "w.safetensors")


def test_state_that_is_not_tensors_cannot_be_saved(tmp_path):
    class Odd(nn.Linear):
        def get_extra_state(self):
            return {"epoch": 3}

    with pytest.raises(InputError, match="_extra_state"):
        checkpoint.save(Odd(2, 2), tmp_path / "w.safetensors")
