"""Two steps in every order: check refuses the recipe with the reason, or it runs and keeps what the first step made."""

from itertools import product

import pytest

from edgepack import api
from edgepack.compression.registry import BUILT_IN
from edgepack.engine.events import ignore

NETS = """\
import torch
from torch import nn

from edgepack.data import Splits
from edgepack.data.splits import take
from edgepack.zoo import digits


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.after = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.block = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))
        self.one, self.two = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 32, 1)
        self.depthwise = nn.Conv2d(32, 32, 3, stride=2, groups=32)
        self.hidden, self.out = nn.Linear(32, 64), nn.Linear(64, 10)

    def forward(self, x):
        x = torch.relu(self.after(self.stem(x)))
        x = torch.relu(x + self.block(x))
        x = torch.relu(self.depthwise(self.two(self.one(x)))).mean((2, 3))
        return self.out(torch.relu(self.hidden(x)))


def network():
    torch.manual_seed(0)
    return Net()


def splits():
    whole = digits.splits()
    parts = whole.x_train, whole.y_train, whole.x_test, whole.y_test
    return Splits(*(take(part, slice(0, count)) for part, count in zip(parts, (128, 128, 64, 64), strict=True)))
"""
RECIPE = """\
edgepack: 1
name: pairs
model:
  source: nets:network
  inputs: [{{name: x, shape: [1, 1, 8, 8]}}]
  train: {{epochs: 20, lr: 0.005, batch_size: 16}}
data: {{source: 'nets:splits'}}
compress: [{steps}]
bench: {{baseline: false}}
targets: [{{target: host}}]
"""
SHORT = "fine_tune: {epochs: 1}"
OPTIONS = {
    "binarize": f"samples: 16, {SHORT}",
    "cluster": SHORT,
    "distill": SHORT,
    "hash-weights": SHORT,
    "low-rank": f"energy: 0.6, {SHORT}",
    "product-quantize": f"entries: 16, {SHORT}",
    "prune-blocks": f"ratio: 0.5, block: [4, 2], {SHORT}",
    "prune-channels": "ratio: 0.5, round_to: 1",
    "prune-layers": f"count: 1, samples: 16, {SHORT}",
    "prune-weights": f"ratio: 0.5, {SHORT}",
    "pulse-quantize": SHORT,
    "quantize-static": "samples: 16",
    "train-quantized": f"samples: 16, {SHORT}",
}
NOTHING_LEFT = (
    "would make no weight of Net smaller",
    "no weight gets smaller",
    "quantize-static would quantize no weight",
    "Net has no weights for",
    "Net has no layer of which a lower rank saves",
    "of the weights are zero, as before",
    "there is nothing to fold",
    "has no block that can be removed",
    "there is no constant of 32 elements or more to store in 16 bits",
)
"""How a step is refused for which the first one has left nothing; another model, or ``skip`` there, would leave something."""
ENCODINGS = {
    "binarize": "1-bit",
    "cluster": "codebook",
    "hash-weights": "hashed",
    "product-quantize": "vector-codebook",
    "pulse-quantize": "pulses",
    "train-quantized": "int8",
}
"""What the .onnx file holds after these steps, and still after any other."""
PAIRS = list(product(BUILT_IN, repeat=2))
FEW = [
    ("cluster", "prune-layers"),
    ("binarize", "quantize-static"),
    ("prune-weights", "train-quantized"),
    ("quantize-static", "bf16"),
    ("bf16", "prune-channels"),
    ("low-rank", "pulse-quantize"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of recipes, with caches of its own."""
    path = tmp_path_factory.mktemp("pairs")
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("CACHE", "DATA", "STATE", "CONFIG"):
            patch.setenv(f"XDG_{kind}_HOME", str(path / kind))
        (path / "nets.py").write_text(NETS)
        yield path


def holds(folder, pair):
    first, second = pair
    steps = ", ".join(f"{{method: {name}, {OPTIONS.get(name, '')}}}" for name in pair)
    recipe = folder / f"{first}-{second}.yaml"
    recipe.write_text(RECIPE.format(steps=steps))
    problems = api.check(recipe)
    if problems:
        allowed = f"{second} makes no sense after {first}: ", f"{second} changes the torch module"
        assert all(problem.message.startswith(allowed) for problem in problems)
        return
    report = api.compress(recipe, listener=ignore)
    if report.exit_code:
        (error,) = report.errors
        assert report.exit_code == 2
        assert any(reason in error.message for reason in NOTHING_LEFT), error
        assert error.next
        return
    source, before, after = report.compression
    if "sparse" in BUILT_IN[first].leaves:
        assert before.nonzeros < source.nonzeros
        assert after.nonzeros <= before.nonzeros + 64  # scales and zero points
    on_file = "torch" not in BUILT_IN[second].levels
    if on_file:
        assert after.score.value >= before.score.value - 0.1
    if on_file and second != "fp16":
        assert after.weights_memory == pytest.approx(before.weights_memory, rel=0.1)
    if on_file and first in ENCODINGS:
        assert ENCODINGS[first] in after.encodings


@pytest.mark.parametrize("pair", FEW, ids=", ".join)
def test_two_steps_are_refused_with_the_reason_or_keep_what_the_first_one_made(folder, pair):
    holds(folder, pair)


@pytest.mark.slow
@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair not in FEW], ids=", ".join)
def test_any_two_steps(folder, pair):
    holds(folder, pair)
