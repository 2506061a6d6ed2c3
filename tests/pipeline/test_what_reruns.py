"""Each key of a recipe re-runs the stages whose result it can change, and no other."""

import copy
import json

import pytest
from pydantic import BaseModel

from edgepack.config.problems import flatten
from edgepack.config.recipe import Bench, Gates, Recipe, TargetEntry, Tune
from edgepack.spec import Model, Train

FULL = {
    "edgepack": 1,
    "name": "tiny",
    "version": "1.0.0",
    "model": {
        "source": "net:make",
        "train": {"epochs": 1, "lr": 0.1, "batch_size": 8, "weight_decay": 0.1, "seed": 1},
        "inputs": [{"name": "image", "shape": [1, 1, 8, 8]}],
    },
    "data": {"source": "samples:splits"},
    "compress": [
        {"method": "prune-channels", "ratio": 0.5},
        {"method": "quantize-static", "samples": 8},
    ],
    "tune": {"trials": 8, "minutes": 9.0, "patience": 2, "seed": 3},
    "bench": {"runs": 50, "warmup": 5, "threads": 1, "accuracy_samples": 9, "baseline": True},
    "robustness": {"severities": [1, 2], "samples": 9, "fgsm": 0.1},
    "gates": dict.fromkeys(set(Gates.model_fields) - {"each_step", "steps"}, 0.5)
    | {"each_step": {"metric_drop": 0.5}, "steps": {"quantize-static": {"metric_drop": 0.5}}},
    "targets": [
        {"target": "rpi4", "device": "pi"},
        {"target": "arm64", "devices": ["arm"], "tune": {"trials": 4}},
    ],
}
BOARD = ["Bench"]
BUILD = ["Package", *BOARD]
TUNED = ["Tune", "Compile", *BUILD]
RELEASE = ["CompressOnnx", "Robustness", "Evaluate", *TUNED]
ALL = ["Train", "CompressTorch", "Export", *RELEASE]
# The key, another value, the stages that re-run, and how often where that shows that only one place does.
CHANGES = [
    ("name", "other", BUILD, {}),
    ("version", "2.0.0", BUILD, {}),
    ("model.source", "other:make", ALL, {}),
    ("model.inputs.0.name", "picture", ALL, {}),
    ("data.source", "other:splits", ALL, {}),
    ("metric", "samples:score", ALL, {}),
    ("higher_is_better", False, ALL, {}),
    ("robustness.severities", [3], ["Robustness"], {}),
    ("robustness.samples", 7, ["Robustness"], {}),
    ("robustness.fgsm", 0.2, ["Robustness"], {}),
    ("loss", "samples:loss", ALL, {}),
    *((f"model.train.{key}", 2, ALL, {}) for key in Train.model_fields),
    ("compress.0.ratio", 0.4, ["CompressTorch", "Export", *RELEASE], {"Bench": 2}),  # of two targets
    ("compress.1.samples", 9, RELEASE, {"CompressOnnx": 1, "Bench": 2}),
    *((f"tune.{key}", 7, TUNED, {"Tune": 2, "Bench": 2}) for key in Tune.model_fields),  # two candidates, one target
    ("targets.1.tune.trials", 5, TUNED, {"Tune": 2, "Bench": 2}),
    *((f"bench.{key}", 4, BOARD, {"Bench": 4}) for key in ("runs", "warmup", "threads", "accuracy_samples")),
    ("bench.profile", True, BOARD, {"Bench": 4}),
    ("bench.baseline", False, [], {}),
    *((f"gates.{key}", 0.7, [], {}) for key in set(Gates.model_fields) - {"each_step", "steps"}),
    ("gates.each_step", {"metric_drop": 0.7}, [], {}),
    ("gates.steps", {"quantize-static": {"metric_drop": 0.7}}, [], {}),
    ("targets.0.device", "pi2", BOARD, {"Bench": 2}),
    ("targets.1.devices.0", "arm2", BOARD, {"Bench": 2}),
    ("targets.0.target", "rpi3", ["Compile", "Package"], {"Compile": 2}),
]  # fmt: skip


@pytest.fixture
def tried(line):
    folder = line.path.parent
    (folder / "net.py").write_text("import layers\ndef make(): ...\n")
    (folder / "layers.py").write_text("")
    (folder / "samples.py").write_text("def splits(): ...\ndef score(x, y): ...\ndef loss(x, y): ...\n")
    (folder / "other.py").write_text(
        "def make(): ...\ndef splits(): ...\ndef score(x, y): ...\ndef loss(x, y): ...\n"
    )
    line(json.dumps(FULL))
    return line


def changed(path, value):
    recipe = copy.deepcopy(FULL)
    *outer, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    place = recipe
    for part in outer:
        place = place[part]
    assert last not in place or place[last] != value
    place[last] = value
    if path in {"metric", "higher_is_better"}:
        recipe = {"metric": "samples:score", "higher_is_better": True} | recipe
        del recipe["gates"]  # some are of the accuracy
    if path == "targets.0.target":
        del place["device"]  # it is of another target
    return json.dumps(recipe)


def reran(line):
    return {name: count for name, count in line.count().items() if name != "Deploy"}  # never cached


def test_a_change_re_runs_what_it_can_change(tried):
    wrong = {}
    for path, value, stages, counts in CHANGES:
        tried(changed(path, value))
        again = reran(tried)
        if set(again) != set(stages) or {name: again[name] for name in counts} != counts:
            wrong[path] = again
    assert not wrong


def test_every_key_is_there():
    def keys(model, at):
        for name, info in model.model_fields.items():
            inner = [t for t in flatten(info.annotation) if isinstance(t, type) and issubclass(t, BaseModel)]
            yield from keys(inner[0], f"{at}{name}.") if inner and model is not Gates else [f"{at}{name}"]

    tested = {change[0] for change in CHANGES}
    for model, at in ((Gates, "gates."), (Bench, "bench."), (Tune, "tune."), (Train, "model.train.")):
        assert set(keys(model, at)) <= tested
    # A recipe has data or samples; the arrays of both count by their contents.
    assert set(Recipe.model_fields) - {"edgepack", "samples"} == {path.partition(".")[0] for path in tested}
    assert set(TargetEntry.model_fields) == {"target", "device", "devices", "tune"}
    # What names files, a dtype or a shape: their contents count, see test_fingerprint.py.
    assert set(Model.model_fields) == {"source", "onnx", "weights", "sha256", "train", "inputs"}


def test_files_beside_the_recipe(tried):
    folder = tried.path.parent
    (folder / "plot.py").write_text("import net\nprint(1)\n")
    (folder / "net.py").write_text("# a comment\nimport layers\n\n\ndef make(): ...  # another\n")
    (folder / "notes.txt").write_text("")
    tried(json.dumps(FULL))
    assert reran(tried) == {}
    (folder / "samples.py").write_text("def splits(): return 1\ndef score(x, y): ...\ndef loss(x, y): ...\n")
    tried(json.dumps(FULL))
    assert "Train" in reran(tried)
    (folder / "layers.py").write_text("x = 1\n")
    tried(json.dumps(FULL))
    assert "Train" in reran(tried)


def test_another_order_and_comments(tried):
    tried("# a comment\n" + json.dumps(dict(reversed(FULL.items()))))
    assert reran(tried) == {}
