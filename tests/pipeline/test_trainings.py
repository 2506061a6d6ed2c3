"""Trainings of a run: one that diverges, and one whose process is killed."""

import signal
import subprocess
import sys

import pytest

from edgepack import api

CODE = """\
import numpy as np
import torch
from torch import nn

from edgepack.data import Splits

BATCHES = [0]


def network():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))


def samples():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((240, 6)).astype("float32")
    y = x[:, :3].argmax(1)
    return Splits(x[:200], y[:200], x[200:], y[200:])


def loss(outputs, targets):
    BATCHES[0] += 1
    found = nn.functional.cross_entropy(outputs, targets)
    return found * float("nan") if BATCHES[0] == 20 else found
"""
RECIPE = """\
edgepack: 1
name: small
model:
  source: {module}:network
  train: {{epochs: 6, lr: 0.01, batch_size: 50, seed: 5}}
  inputs: [{{name: x, shape: [1, 6]}}]
data: {{source: "{module}:samples", seed: 2}}
{more}targets: [{{target: x86-64-v3}}]
"""
KILLED = """\
import os, signal, sys
from edgepack import api
from edgepack.engine.events import Advanced
from edgepack.torchnet.trainings import Trainings

Trainings.is_due = lambda self: True
recipe, stage, epoch = sys.argv[1:]
here = []

def listen(event):
    scope = getattr(event, "scope", None)
    here[:] = here if scope is None else [scope.label]
    if isinstance(event, Advanced) and here == [stage] and event.text.startswith(f"epoch {epoch}/"):
        os.kill(os.getpid(), signal.SIGKILL)

api.compress(recipe, listener=listen)
"""
STEP = """\
compress:
  - method: prune-weights
    ratio: 0.5
    criterion: movement
    schedule: gradual
    fine_tune: {epochs: 4, lr: 0.01, batch_size: 50, seed: 9}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for kind in ("CACHE", "CONFIG", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    return tmp_path


def write(folder, module, more=""):
    (folder / f"{module}.py").write_text(CODE)
    (folder / "recipe.yaml").write_text(RECIPE.format(module=module, more=more))
    return folder / "recipe.yaml"


def test_one_that_diverges_is_in_the_report_with_its_seed(folder, capsys):
    from edgepack.reporting.terminal import print_report

    report = api.compress(write(folder, "diverging", more="loss: diverging:loss\n"))
    assert (report.exit_code, report.errors) == (0, ())
    (source,) = report.compression
    assert source.seeds == {"train.seed": 5, "data.seed": 2}
    (training,) = source.trainings
    assert (training.epochs, training.kept, training.seed) == (6, 4, 5)
    assert training.diverged == "the loss became nan in epoch 5"
    warning = "training diverged: the loss became nan in epoch 5 of 6; the weights after epoch 4 are kept"
    assert all(any(warning in each for each in row.warnings) for row in report.rows)
    assert report.rows
    print_report(report, sys.stdout)
    assert f"! release: {warning}" in capsys.readouterr().out
    for page in ("report.md", "report.html"):
        assert warning in (api.run_folder(report) / page).read_text()


def artifacts(report):
    return [(stage.stage, [each.sha256 for each in stage.artifacts]) for stage in report.stages]


def test_a_run_that_is_killed_while_training_continues_with_the_same_bytes(folder, monkeypatch):
    recipe = write(folder, "killed", more=STEP)
    store = folder / "cache/edgepack/store"
    for stage, epoch, left in (("train", 3, 1), ("prune-weights", 2, 1)):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, recipe, stage, str(epoch)], check=False, cwd=folder
        )
        assert done.returncode == -signal.SIGKILL
        assert len(list(store.glob("unfinished/*/training-1.pt"))) == left
    said = []
    report = api.compress(recipe, listener=lambda event: said.append(getattr(event, "text", None)))
    assert "continued after epoch 1/4" in said
    why = {stage.stage: (stage.status, stage.why) for stage in report.stages}
    assert why["train"] == ("cached", None)
    assert why["prune-weights"] == ("done", "first run; continues the interrupted one")
    assert not list(store.glob("unfinished/*"))

    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "another"))
    whole = api.compress(recipe)
    assert artifacts(whole) == artifacts(report)
    assert [row.trainings for row in whole.compression] == [row.trainings for row in report.compression]
    assert not list((folder / "another/edgepack/store/unfinished").iterdir())
