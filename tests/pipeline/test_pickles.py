"""Pickled objects in the files of a recipe are loaded with --trust only."""

import subprocess
import sys

import pytest
import torch

from edgepack import api
from edgepack.cli import main
from edgepack.errors import TrustError

CODE = """\
import numpy as np
import torch
from torch import nn

from edgepack.data import Splits


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(4, 2)

    def forward(self, x):
        return self.dense(x)


def network():
    torch.manual_seed(0)
    return Scale()


def samples():
    x = np.random.default_rng(0).standard_normal((40, 4)).astype("float32")
    return Splits(x[:30], (x[:30, 0] > 0).astype("int64"), x[30:], (x[30:, 0] > 0).astype("int64"))
"""
RECIPE = """\
edgepack: 1
name: whole
model:
  source: scaled:network
  {weights}inputs: [{{name: x, shape: [1, 4]}}]
data: {{source: "scaled:samples"}}
{more}targets: [{{target: x86-64-v3}}]
"""
DISTILL = """\
compress:
  - method: distill
    teachers: [{source: "scaled:network", weights: whole.pt}]
    fine_tune: {epochs: 1}
"""
SAVE = """\
import scaled, torch
module = scaled.network()
torch.nn.init.constant_(module.dense.weight, 0.25)
torch.save(module, "whole.pt")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trust")
    (folder / "scaled.py").write_text(CODE)
    subprocess.run([sys.executable, "-c", SAVE], check=True, cwd=folder)
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("CACHE", "CONFIG", "DATA", "STATE"):
            patch.setenv(f"XDG_{kind}_HOME", str(folder / kind.lower()))
        yield folder


def write(folder, name, *, weights="", more=""):
    path = folder / f"{name}.yaml"
    path.write_text(RECIPE.format(weights=weights, more=more))
    return path


NOTE = "whole.pt was unpickled, which runs code that it names"


def test_the_weights_of_the_model(folder):
    recipe = write(folder, "model", weights="weights: whole.pt\n  ")
    report = api.compress(recipe)
    assert report.exit_code == 6
    assert "contains an object of scaled.Scale" in report.errors[0].message
    with pytest.raises(TrustError, match=r"scaled\.Scale"):
        api.examine(recipe)
    assert api.examine(recipe, trust=True).notes == (NOTE,)
    trusted = api.compress(recipe, trust=True)
    assert trusted.exit_code == 0
    assert all(NOTE in row.warnings for row in trusted.rows)
    # The same file again: its weights are stored, and no pickle is loaded.
    again = api.compress(recipe)
    assert again.exit_code == 0
    assert {stage.stage: stage.status for stage in again.stages}["load"] == "cached"
    assert all(NOTE in row.warnings for row in again.rows)
    # Another file under its name is not trusted.
    module = torch.load(folder / "whole.pt", weights_only=False)
    other = folder / "other"
    other.mkdir()
    (other / "scaled.py").write_text(CODE)
    torch.nn.init.zeros_(module.dense.weight)
    torch.save(module, other / "whole.pt")
    assert api.compress(write(other, "model", weights="weights: whole.pt\n  ")).exit_code == 6


def test_the_weights_of_a_teacher(folder):
    recipe = write(folder, "taught", more=DISTILL)
    assert api.compress(recipe).exit_code == 6
    trusted = api.compress(recipe, trust=True)
    assert trusted.exit_code == 0
    (row,) = (row for row in trusted.rows if row.candidate == "release")
    assert f"distill: {NOTE}" in row.warnings


def test_every_command_that_loads_a_model_has_the_option(folder, capsys):
    recipe = write(folder, "model", weights="weights: whole.pt\n  ")
    for command in ("run", "compress", "tune", "package", "compile", "sensitivity", "check"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert "--trust" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["check", "--trust", str(recipe)])
    assert ended.value.code == 2
    assert "without --deep, check loads no weights file" in capsys.readouterr().err
