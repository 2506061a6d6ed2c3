"""What check and check --deep pass can be built and run: recipes generated from models, data, compression and gates."""

import itertools

import numpy as np
import onnx
import onnx.parser
import pytest
from command_line import lacking
from onnx import numpy_helper

from edgepack import api
from edgepack.engine.events import ignore
from edgepack.errors import InputError

SOURCE = """\
import torch
from torch import nn


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.out = nn.Embedding(30, 8), nn.Linear(8, 3)

    def forward(self, ids, mask):
        kept = mask[..., None].float()
        return self.out((self.words(ids) * kept).sum(1) / kept.sum(1))


def text():
    torch.manual_seed(0)
    return Text()


def image():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
"""
WEIGHTS = {
    "w": np.random.default_rng(0).standard_normal((6, 3)).astype("float32"),
    "t": np.random.default_rng(1).standard_normal((20, 6)).astype("float32"),
    "scale": np.float32(1 / 255),
    "last": np.array([-1]),
    "axes": np.array([1]),
    "space": np.array([1, 2]),
    "lowest": np.float32(-np.inf),
}
GRAPHS = {
    "plain": "g (float[2, 6] x) => (float[2, 3] y) { y = MatMul (x, w) }",
    "open": "g (float[N, 6] x) => (float[N, 3] y) { y = MatMul (x, w) }",
    "pixels": "g (uint8[1, 6, 6, 6] x) => (float[1, 3] y) {"
    " f = Cast <to = 1> (x) s = Mul (f, scale) m = ReduceMean <keepdims = 0> (s, space) y = MatMul (m, w) }",
    "two": "g (float[1, 6] x, float[1, 6] z) => (float[1, 3] y) { a = Log (x) s = Add (a, z) y = MatMul (s, w) }",
    "masked": "g (int64[1, 5] ids, bool[1, 5] pad) => (float[1, 3] y) {"
    " e = Gather (t, ids) m = MatMul (e, w) u = Unsqueeze (pad, last) k = Where (u, lowest, m)"
    " p = Softmax <axis = 1> (k) v = Mul (p, m) y = ReduceSum <keepdims = 0> (v, axes) }",
}
MODELS = {
    **{f"onnx {name}": f"{{onnx: {name}.onnx}}" for name in GRAPHS},
    "onnx open of 3": "{onnx: open.onnx, inputs: [{name: x, shape: [3, 6]}]}",
    "torch image": "{source: 'nets:image', inputs: [{name: image, shape: [1, 3, 6, 6]}]}",
    "torch text": "{source: 'nets:text', inputs: [{name: ids, shape: [1, 5], dtype: int64}, {name: mask, shape: [1, 5], dtype: int64}]}",
}  # fmt: skip
SHAPES = {
    "onnx plain": {"x": (2, 6)}, "onnx open": {"x": (1, 6)}, "onnx open of 3": {"x": (3, 6)},
    "onnx pixels": {"x": (1, 6, 6, 6)}, "onnx two": {"x": (1, 6), "z": (1, 6)},
    "onnx masked": {"ids": (1, 5), "pad": (1, 5)},
    "torch image": {"image": (1, 3, 6, 6)}, "torch text": {"ids": (1, 5), "mask": (1, 5)},
}  # fmt: skip
DATA = {"nothing": "", "samples": "samples: samples.npz\n", "labels": "data: {npz: data.npz}\n"}
STEPS = {"whole": "", "int8": "compress: [{method: quantize-static, samples: 4}]\n"}
COMBINATIONS = list(itertools.product(MODELS, DATA, STEPS))
FEW = [
    ("onnx open of 3", "nothing", "whole"),
    ("onnx open", "nothing", "whole"),
    ("onnx masked", "samples", "int8"),
    ("onnx two", "labels", "int8"),
]


def values(name, shape):
    rng = np.random.default_rng(5)
    if name == "ids":
        return rng.integers(0, 20, shape)
    if name == "pad":
        return np.zeros(shape, bool)
    return np.ones(shape, "int64") if name == "mask" else rng.uniform(0.1, 1, shape).astype("float32")


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a recipe with its model and data; returns its path."""
    for kind in ("CACHE", "DATA", "STATE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind))

    def write(model, data, steps, rest):
        (tmp_path / "nets.py").write_text(SOURCE)
        for name, text in GRAPHS.items():
            made = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {text}')
            made.graph.initializer.extend(
                numpy_helper.from_array(np.asarray(value), key)
                for key, value in WEIGHTS.items()
                if f"{key}" in text
            )
            onnx.save(made, tmp_path / f"{name}.onnx")
        shapes = SHAPES[model]
        arrays = {name: values(name, (4 * shape[0], *shape[1:])) for name, shape in shapes.items()}
        if model == "onnx pixels":
            arrays = {"x": (arrays["x"] * 255).astype("uint8")}
        np.savez(tmp_path / "samples.npz", **arrays)
        labelled = {
            "x" if len(arrays) == 1 else f"x.{name}": np.concatenate([array] * 3)
            for name, array in arrays.items()
        }
        count = len(next(iter(labelled.values())))
        np.savez(tmp_path / "data.npz", **labelled, y=np.arange(count) % 3)
        path = tmp_path / "recipe.yaml"
        path.write_text(f"edgepack: 1\nname: made\nmodel: {MODELS[model]}\n{DATA[data]}{STEPS[steps]}{rest}")
        return path

    return write


def passes(path):
    """Whether check and check --deep find nothing."""
    if api.check(path):
        return False
    try:
        return not api.examine(path).model_problems
    except InputError:
        return False


def must_pass(model, data, steps):
    unknown = model == "onnx open"  # the batch is open, and the recipe does not fix it
    return not unknown and not (steps == "int8" and data == "nothing")


def built(written, combination):
    path = written(*combination, "targets: [{target: host}]\n")
    assert passes(path) == must_pass(*combination)
    if must_pass(*combination):
        report, bundles = api.build(path, out=path.parent / "out", listener=ignore)
        assert (report.exit_code, [error.message for error in report.errors]) == (0, [])
        assert len(bundles) == 1


@pytest.mark.parametrize("combination", FEW, ids=", ".join)
def test_a_recipe_that_passes_is_built(written, combination):
    built(written, combination)


@pytest.mark.slow
@pytest.mark.parametrize("combination", [c for c in COMBINATIONS if c not in FEW], ids=", ".join)
def test_every_recipe_that_passes_is_built(written, combination):
    built(written, combination)


@pytest.mark.slow
@pytest.mark.parametrize("model", [model for model in MODELS if model != "onnx open"])
def test_a_recipe_that_passes_runs_and_passes_its_gates(written, model):
    lacking("sshd")
    gates = "bench: {runs: 5, warmup: 1}\ngates: {parity: 0.001}\ntargets: [{target: host, device: 'virtual:host'}]\n"
    path = written(model, "samples", "int8", gates)
    assert passes(path)
    report = api.run(path)
    assert (report.exit_code, [error.message for error in report.errors]) == (0, [])
    assert [gate.status for gate in report.gates] == ["passed"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, None),
        ({"y": np.arange(12) // 2}, "label 5 has no output: the model has 3 classes"),
        ({"y": np.arange(12) % 4}, "label 3 has no output"),
    ],
)
def test_labels_that_the_model_has_no_class_for_are_found(written, change, says):
    path = written("onnx plain", "labels", "whole", "targets: [{target: host}]\n")
    arrays = {"x": np.ones((12, 6), "float32"), "y": np.arange(12) % 3}
    np.savez(path.parent / "data.npz", **(arrays | change))
    if says is None:
        assert api.examine(path).model_problems == ()
        return
    with pytest.raises(InputError, match=says):
        api.examine(path)


def test_ids_that_the_table_does_not_have_are_found(written):
    path = written("onnx masked", "samples", "whole", "targets: [{target: host}]\n")
    np.savez(path.parent / "samples.npz", ids=np.full((2, 5), 20), pad=np.zeros((2, 5), bool))
    assert api.check(path) == []
    with pytest.raises(InputError, match="the model does not run on"):
        api.examine(path)
