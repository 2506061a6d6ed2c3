"""Every method gives the same bytes for the same seed, in every process."""

import json
import os
import subprocess
import sys

import pytest

from edgepack.compression.registry import BUILT_IN

TRAIN = {"epochs": 1, "lr": 0.002}
OPTIONS = {
    "distill": [{"width": 0.5}],
    "fp16": [{}, {"compute": "fp16"}],
    "binarize": [{"samples": 16}],
    "low-rank": [{"energy": 0.6, "data_aware": True, "samples": 32}],
    "prune-blocks": [{"ratio": 0.5}],
    "prune-channels": [
        {"ratio": 0.25, "round_to": 1, "fine_tune": None},
        {"ratio": 0.25, "round_to": 1, "criterion": "random"},
        {"ratio": 0.25, "round_to": 1, "criterion": "taylor"},
    ],
    "prune-layers": [{"count": 1, "samples": 16}],
    "prune-weights": [{"ratio": 0.5}, {"ratio": 0.5, "criterion": "movement", "schedule": "gradual"}],
    "quantize-static": [
        {"samples": 16},
        {"samples": 16, "rounding": "learned", "iterations": 20},
        {"samples": 16, "data_free": True},
    ],
    "quantize-weights": [{"bits": 4}],
    "train-quantized": [{"samples": 16}],
}
PROGRAM = '''\
"""Prints the sha256 of what every step makes, as JSON."""

import hashlib
import json
import sys
from pathlib import Path

import torch
from torch import nn

from edgepack.compression import Context
from edgepack.compression.registry import BUILT_IN
from edgepack.data import Splits
from edgepack.data.splits import take
from edgepack.export import to_onnx
from edgepack.pipeline.stages.compress_onnx import signature_of
from edgepack.pipeline.stages.signature import Signature
from edgepack.spec import Input
from edgepack.torchnet.checkpoint import save
from edgepack.zoo import digits


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.norm, self.relu = nn.BatchNorm2d(16), nn.ReLU()

    def forward(self, x):
        return self.relu(x + self.norm(self.second(self.relu(self.first(x)))))


def net():
    torch.manual_seed(0)
    fold = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
    pool = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    layers = nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), Block(), Block(), *fold, *pool
    return nn.Sequential(*layers, nn.Linear(16, 10)).eval()


inputs = (Input(name="image", shape=(1, 1, 8, 8)),)
whole = digits.splits()
data = Splits(*(take(each, slice(0, 100)) for each in (whole.x_train, whole.y_train, whole.x_test, whole.y_test)))
folder, steps = Path(sys.argv[1]), json.load(sys.stdin)
onnx = to_onnx(net(), inputs, folder / "model.onnx")
found = {"export": hashlib.sha256(onnx.read_bytes()).hexdigest()}
for name, options in steps:
    method = BUILT_IN[name]
    step = method.spec.model_validate({"method": name, **options}, strict=False)
    for level in method.levels:
        if level == "onnx" and any(need.kind == "gradients" for need in method.on(level).needs(step)):
            continue
        context = Context(inputs, data, teacher=net)
        out = folder / "out"
        if level == "torch":
            result = method.on(level).apply(net(), step, context)
            save(result.module, out)
            Signature.of_module(net(), inputs).require_of_module(result.module, inputs, step, method)
            metrics = result.metrics
        else:
            metrics = method.on(level).apply(onnx, out, step, context)
            signature_of(onnx).require(signature_of(out), step, method)
        digest = hashlib.sha256(out.read_bytes() + json.dumps(metrics, sort_keys=True).encode())
        found[f"{name} {level} {options}"] = digest.hexdigest()
print(json.dumps(found))
'''


def steps():
    """Every method with what it needs, and trained after it where it can be."""
    for name, method in BUILT_IN.items():
        for options in OPTIONS.get(name, [{}]):
            trained = {"fine_tune": TRAIN} if "fine_tune" in method.spec.model_fields else {}
            yield name, trained | options


def run(folder, hash_seed):
    """What a process of its own makes; ``hash_seed`` decides the order of its sets."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)],
        input=json.dumps(list(steps())),
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_two_processes_make_the_same_bytes(tmp_path):
    first, second = (run(tmp_path / seed, seed) for seed in ("1", "2"))
    assert {name for name, _ in steps()} == set(BUILT_IN)
    assert len(first) > len(BUILT_IN)
    assert first == second
