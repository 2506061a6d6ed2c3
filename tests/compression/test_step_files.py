"""Files and code that a step refers to: checked, hashed, and available only through the context."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgepack.api import check
from edgepack.compression import Context, StepFile
from edgepack.compression.registry import METHODS
from edgepack.errors import EdgepackError, InputError
from edgepack.pipeline.fingerprint import step_inputs

CODE = """\
from torch import nn

def network():
    return nn.Linear(4, 2)

def loss(a, b):
    from other import scale
    return scale * (a - b)

def broken(a):
    raise ValueError("no such loss")

def three(a, b, c):
    return a
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "own_losses.py").write_text(CODE)
    (tmp_path / "other.py").write_text("scale = 2\n")
    torch.manual_seed(0)
    save_file(nn.Linear(4, 2).state_dict(), tmp_path / "w.safetensors")
    return tmp_path


def context(base):
    files = (
        StepFile(("teacher", "source"), "own_losses:network", "callable"),
        StepFile(("teacher", "weights"), "w.safetensors"),
        StepFile(("loss",), "own_losses:loss", "callable", arguments=2),
        StepFile(("broken",), "own_losses:broken", "callable", arguments=1),
    )
    return Context((), files=files, base=base)


def test_they_are_found_relative_to_the_recipe(project):
    given = context(project)
    assert given.path("w.safetensors") == project / "w.safetensors"
    assert given.function("own_losses:loss")(5, 2) == 6  # which imports its neighbour when it runs
    first = given.module("own_losses:network", "w.safetensors")
    torch.manual_seed(0)
    assert torch.equal(first.weight, nn.Linear(4, 2).weight)
    assert not first.training
    assert given.module("own_losses:network").weight.shape == (2, 4)


def test_user_code_that_fails_is_told_with_its_line(project):
    with pytest.raises(InputError, match="own_losses:broken failed") as caught:
        context(project).function("own_losses:broken")(1)
    assert caught.value.where == f"{project / 'own_losses.py'}:11"


def test_what_the_method_does_not_give_cannot_be_had(project):
    given = context(project)
    for ask in (
        lambda: given.path("own_losses.py"),
        lambda: given.function("own_losses:other"),
        lambda: given.module("own_losses:network", "other.safetensors"),
        lambda: given.path("own_losses:loss"),
    ):
        with pytest.raises(EdgepackError, match=r"which its files\(step\) does not return"):
            ask()


def test_their_content_is_hashed_by_option(project):
    files = context(project).files
    before = {role: artifact.sha256 for role, artifact in step_inputs(files, project).items()}
    assert list(before) == ["teacher.source", "teacher.weights", "loss", "broken"]
    (project / "w.safetensors").write_bytes(b"other")
    after = {role: artifact.sha256 for role, artifact in step_inputs(files, project).items()}
    assert [role for role in before if before[role] != after[role]] == ["teacher.weights"]
    (project / "other.py").write_text("scale = 3\n")
    edited = {role: artifact.sha256 for role, artifact in step_inputs(files, project).items()}
    assert [role for role in after if after[role] != edited[role]] == ["teacher.source", "loss", "broken"]


def test_they_are_checked_at_their_options(project, monkeypatch):
    method = METHODS["quantize-static"]
    files = lambda step: tuple(  # noqa: E731 - one expression
        StepFile(("skip", i), name, "callable" if ":" in name else "file", arguments=2)
        for i, name in enumerate(step.skip)
    )
    monkeypatch.setitem(METHODS, "quantize-static", replace(method, files=files))
    (project / "recipe.yaml").write_text(
        'edgepack: 1\nname: a\nmodel: {source: "own_losses:network", inputs: [{name: x, shape: [1, 4]}]}\n'
        'data: {source: "own_losses:network"}\ncompress:\n  - method: quantize-static\n    skip:\n'
        "      - w.safetensors\n      - v.safetensors\n      - own_losses:loss\n      - own_losses:three\n"
        "targets: [{target: x86-64-v3}]\n"
    )
    found = {(p.line, p.column): p.message for p in check(project / "recipe.yaml")}
    assert set(found) == {(9, 9), (11, 9)}
    assert found[9, 9].startswith("no such file")
    assert "own_losses:three" in found[11, 9]
