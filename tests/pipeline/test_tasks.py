"""Any task through the model stages: segmentation, and regression with two inputs and two outputs, on the digits' images."""

import pytest

from edgepack import api
from edgepack.reporting.saved import folder_of

CODE = """\
import numpy as np
import torch
from torch import nn

from edgepack.data import Splits
from edgepack.zoo import digits


def mask_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 3, padding=1))


def masks():
    d, rng = digits.splits(), np.random.default_rng(0)

    def noisy(x):
        return np.clip(x + 0.1 * rng.standard_normal(x.shape), 0, 1).astype("float32")

    def ink(x):
        return (x[:, 0] > 0.5).astype("int64")

    x, y = d.x_train[:300], d.x_test[:40]
    return Splits(noisy(x), ink(x), noisy(y), ink(y))


class Centre(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(32, 24), nn.Linear(32, 24)
        self.centre, self.mass = nn.Linear(48, 2), nn.Linear(48, 1)

    def forward(self, left, right):
        hidden = torch.relu(torch.cat([self.left(left.flatten(1)), self.right(right.flatten(1))], 1))
        return self.centre(hidden), self.mass(hidden)


def centre_net():
    torch.manual_seed(0)
    return Centre()


def centres():
    d = digits.splits()

    def halves(x):
        return {"right": x[:, 0, :, 4:].copy(), "left": x[:, 0, :, :4].copy()}

    def centre(x):
        x, at = x[:, 0], np.arange(8) / 8
        total = x.sum((1, 2))
        both = np.stack([(x.sum(2) * at).sum(1) / total, (x.sum(1) * at).sum(1) / total], 1)
        return {"centre": both, "mass": total[:, None] / 64}

    x, y = d.x_train[:500], d.x_test[:40]
    return Splits(halves(x), centre(x), halves(y), centre(y))


def within(outputs, targets):
    return (np.abs(outputs[0] - targets["centre"]) < 0.05).all(axis=1)


def loss(outputs, targets):
    return nn.functional.mse_loss(outputs[0], targets["centre"]) + nn.functional.mse_loss(outputs[1], targets["mass"])
"""
MASKS = """\
edgepack: 1
name: masks
model:
  source: tasks_of_mine:mask_net
  train: {{epochs: 4, lr: 0.02}}
  inputs: [{{name: image, shape: [1, 1, 8, 8]}}]
data: {{source: "tasks_of_mine:masks"}}
metric: miou
robustness: {{severities: [1, 5], samples: 24, fgsm: 0.1}}
compress:
  - {{method: quantize-static, samples: 16}}
gates: {{each_step: {gates}}}
targets: [{{target: rpi4}}]
"""
CENTRES = """\
edgepack: 1
name: centres
model:
  source: tasks_of_mine:centre_net
  train: {epochs: 12, lr: 0.01}
  inputs: [{name: left, shape: [1, 8, 4]}, {name: right, shape: [1, 8, 4]}]
data: {source: "tasks_of_mine:centres"}
metric: tasks_of_mine:within
higher_is_better: true
loss: tasks_of_mine:loss
compress:
  - {method: quantize-static, samples: 16}
targets: [{target: rpi4}]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "tasks_of_mine.py").write_text(CODE)
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("CACHE", "CONFIG", "DATA", "STATE"):
            patch.setenv(f"XDG_{kind}_HOME", str(folder / kind.lower()))
        yield folder


def compressed(folder, text):
    (folder / "recipe.yaml").write_text(text)
    return api.compress(folder / "recipe.yaml")


def test_masks_are_scored_by_miou_also_under_corruption(project):
    report = compressed(project, MASKS.format(gates="{metric_drop: 0.2, robustness_drop: 0.2}"))
    assert (report.exit_code, report.errors) == (0, ())
    source, quantized = report.compression
    for row in (source, quantized):
        assert (row.score.metric, row.score.samples) == ("miou", 40)
        assert 0.6 < row.score.low < row.score.value < row.score.high < 1
        assert 0.3 < row.robust.value < row.score.value
        assert row.robust.low < row.robust.value < row.robust.high
        assert set(row.robustness.corruptions) >= {"gaussian-noise", "blur", "contrast"}
        assert 0 < row.nonzeros <= row.parameters
    assert source.robustness.fgsm.value < source.score.value
    assert quantized.robustness.fgsm is None, "there are no gradients in ONNX"
    assert quantized.encodings["int8"] > 0
    assert {(gate.name, gate.step, gate.status) for gate in report.gates} == {
        ("metric_drop", "quantize-static", "passed"),
        ("robustness_drop", "quantize-static", "passed"),
    }


def test_a_step_that_misses_a_gate_ends_the_run_and_the_model_before_it_is_kept(project):
    report = compressed(project, MASKS.format(gates="{size_ratio: 0.01}"))
    assert report.exit_code == 3
    (error,) = report.errors
    assert error.message.startswith("quantize-static broke a gate: size_ratio: ")
    assert [(gate.name, gate.step, gate.status) for gate in report.gates] == [
        ("size_ratio", "quantize-static", "failed")
    ]
    assert (folder_of(report) / "best-so-far.safetensors").stat().st_size == report.compression[0].size


def test_two_inputs_two_outputs_and_a_metric_and_loss_of_ones_own(project):
    report = compressed(project, CENTRES)
    assert (report.exit_code, report.errors) == (0, ())
    source, quantized = report.compression
    assert (source.score.metric, source.score.higher_is_better) == ("within", True)
    assert source.score.value > 0.4
    assert quantized.score.value > source.score.value - 0.25
    assert quantized.score.low <= quantized.score.value <= quantized.score.high
