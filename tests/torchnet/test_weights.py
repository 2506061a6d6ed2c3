"""Weights as users have them: with the prefixes of wrappers, inside checkpoints, in half precision; and what is refused."""

import argparse
import shlex

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgepack.errors import InputError, TrustError
from edgepack.torchnet.checkpoint import load


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.stem(x))


def trained():
    torch.manual_seed(3)
    return Net().eval()


STATE = trained().state_dict()


def prefixed(prefix):
    return {prefix + name: value for name, value in STATE.items()}


def loaded(path):
    torch.manual_seed(0)
    restored = load(Net(), path, {})
    torch.testing.assert_close(restored.module.state_dict(), STATE, rtol=1e-3, atol=1e-3)
    return restored


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin", ".safetensors"])
@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.", "_orig_mod.", "module.model.", "model._orig_mod.", "module.module."]
)
def test_the_prefix_of_a_wrapper_is_removed_and_said(tmp_path, prefix, suffix):
    path = tmp_path / f"w{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(prefixed(prefix), path)
    notes = [f"the prefix {prefix!r} of every key in {path.name} was removed"] if prefix else []
    assert list(loaded(path).notes) == notes


def test_a_prefix_that_belongs_to_the_model_stays(tmp_path):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = Net()

    torch.save(prefixed("model."), tmp_path / "w.pt")
    assert load(Wrapped(), tmp_path / "w.pt", {}).notes == ()
    torch.save(prefixed("module.model."), tmp_path / "w.pt")
    assert len(load(Wrapped(), tmp_path / "w.pt", {}).notes) == 1


@pytest.mark.parametrize(
    "state",
    [
        {**prefixed("model."), **prefixed("ema.")},
        {**prefixed("model."), **STATE},
        {**prefixed("model."), "model.extra": torch.ones(1)},
        {**prefixed("backbone.")},
    ],
)
def test_a_prefix_that_leaves_other_keys_is_not_removed(tmp_path, state):
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(InputError, match="the weights do not match Net") as caught:
        load(Net(), tmp_path / "w.pt", {})
    assert "unexpected: " in caught.value.why


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net"])
def test_a_checkpoint_gives_the_weights_that_it_holds(tmp_path, key):
    torch.save({"epoch": 3, key: prefixed("module."), "optimizer": {"lr": 0.1}}, tmp_path / "w.ckpt")
    assert loaded(tmp_path / "w.ckpt").notes


def test_two_sets_of_weights_in_a_checkpoint_are_not_guessed_at(tmp_path):
    torch.save({"model": STATE, "net": STATE}, tmp_path / "w.pt")
    with pytest.raises(InputError, match="not a state_dict of tensors") as caught:
        load(Net(), tmp_path / "w.pt", {})
    assert caught.value.why == "it holds a dict: model, net"


def test_half_precision_is_widened(tmp_path):
    torch.save({name: value.half() for name, value in STATE.items()}, tmp_path / "w.pt")
    restored = loaded(tmp_path / "w.pt")
    assert {value.dtype for value in restored.module.state_dict().values()} == {torch.float32}


def test_missing_weights_are_named(tmp_path):
    torch.save({name: value for name, value in STATE.items() if "head" not in name}, tmp_path / "w.pt")
    with pytest.raises(InputError) as caught:
        load(Net(), tmp_path / "w.pt", {})
    assert caught.value.why == "missing: head.bias, head.weight"


def test_a_whole_module_is_refused_by_its_class_with_a_way_out(tmp_path, monkeypatch):
    path = tmp_path / "it's whole.pt"
    torch.save(trained(), path)
    with pytest.raises(TrustError) as caught:
        load(Net(), path, {})
    assert f"an object of {Net.__module__}.Net" in caught.value.message
    step = caught.value.next.split("python -c ")[1]
    (code,) = shlex.split(step)
    exec(compile(code, "next", "exec"), {})  # noqa: S102 - the step that the error prints must work
    assert not loaded(path.with_suffix(".weights.pt")).notes


@pytest.mark.parametrize("saved", [{"args": argparse.Namespace(lr=1)}, [1, 2], torch.ones(2)])
def test_what_is_no_state_dict_is_refused(tmp_path, saved):
    torch.save(saved, tmp_path / "w.pt")
    with pytest.raises((InputError, TrustError)) as caught:
        load(Net(), tmp_path / "w.pt", {})
    assert caught.value.next


def test_programs_are_named(tmp_path):
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.trace(trained(), torch.ones(1, 4)), tmp_path / "script.pt")
    torch.export.save(torch.export.export(trained(), (torch.ones(1, 4),)), tmp_path / "program.pt")
    for name, kind in (("script.pt", "TorchScript"), ("program.pt", r"torch\.export")):
        with pytest.raises(InputError, match=kind) as caught:
            load(Net(), tmp_path / name, {})
        assert "python -c" in caught.value.next


@pytest.mark.parametrize(
    "saved",
    [
        trained(),
        {"model": trained(), "epoch": 3},
        {"state_dict": STATE, "hyper_parameters": argparse.Namespace(lr=1)},
        nn.DataParallel(trained()),
    ],
    ids=["module", "module in a checkpoint", "weights beside objects", "wrapper"],
)
def test_a_trusted_file_gives_the_weights_that_it_holds_and_says_so(tmp_path, saved):
    path = tmp_path / "w.pt"
    torch.save(saved, path)
    with pytest.raises(TrustError, match="the weights file contains an object of") as caught:
        load(Net(), path, {})
    assert "--trust" in caught.value.next
    assert caught.value.exit_code == 6
    restored = load(Net(), path, {}, trust=True)
    torch.testing.assert_close(restored.module.state_dict(), STATE)
    assert restored.notes[0] == "w.pt was unpickled, which runs code that it names"


def test_trust_changes_nothing_for_files_without_pickled_objects(tmp_path):
    torch.save(STATE, tmp_path / "w.pt")
    save_file(STATE, tmp_path / "w.safetensors")
    for name in ("w.pt", "w.safetensors"):
        assert load(Net(), tmp_path / name, {}, trust=True).notes == ()
    (tmp_path / "w.pt").write_bytes(b"\x90 nothing known")
    with pytest.raises(InputError, match="cannot be unpickled"):
        load(Net(), tmp_path / "w.pt", {}, trust=True)


def test_objects_that_cannot_be_made_are_named(tmp_path):
    class Gone:
        def __reduce__(self):
            return (__import__, ("no_such_module",))

    torch.save({"a": Gone()}, tmp_path / "w.pt")
    with pytest.raises(InputError, match="cannot be unpickled") as caught:
        load(Net(), tmp_path / "w.pt", {}, trust=True)
    assert "ModuleNotFoundError: No module named 'no_such_module'" in caught.value.why
