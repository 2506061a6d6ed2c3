"""What flows from stage to stage, with stages that only write down what they were asked."""

import json
from dataclasses import dataclass, replace

import pytest

from edgepack.bench.measurement import Measurement
from edgepack.bench.stats import BoardState
from edgepack.config.plan import make_plan
from edgepack.config.recipe import Tune
from edgepack.config.target import load_target
from edgepack.engine import runner
from edgepack.engine.stage import Made, Output
from edgepack.engine.store import Store
from edgepack.errors import EdgepackError, InputError, UnreachableError
from edgepack.remote.boards import Place
from edgepack.report.builder import ReportBuilder, recipe_ref, this_host
from edgepack.run import pipeline
from edgepack.run.stages import board, build, model
from edgepack.tune import RecordStore, TuneResult

RECIPE = """\
edgepack: 1
name: tiny
model:
  source: edgepack.zoo.digits:network
  train: {epochs: 1}
  inputs:
    - {name: image, shape: [1, 1, 8, 8]}
data:
  source: edgepack.zoo.digits:splits
compress:
  - {method: prune-channels, ratio: 0.5}
  - {method: quantize-static, samples: 8}
tune: {trials: 8, seed: 3}
targets:
  - {target: rpi4, device: pi}
  - {target: arm64}
"""
FIGURES = {
    "accuracy": 0.5, "size": 10, "parameters": 4, "macs": 8, "samples": 2, "classes": [], "vocabulary": [],
    "inputs": None, "outputs": [], "digest": "d", "trials": 8, "seconds": 1.0, "tuned_share": 0.5, "curve": [],
    "kernels": [], "answers": {"accuracy": 0.5, "samples": 2, "parity": 0.0, "why": None},
}  # fmt: skip
MADE = {
    "TRAIN": "checkpoint", "COMPRESS_TORCH": "checkpoint", "EXPORT": "onnx", "COMPRESS_ONNX": "onnx",
    "EVALUATE": "samples", "TUNE": "tuning_record.json", "RECALL": "tuning_record.json", "COMPILE": "model",
    "PACKAGE": "bundle", "DEPLOY": None, "BENCH": "measurement",
}  # fmt: skip


@dataclass
class Boards:
    port: int | None = None
    emulated: bool = False

    def place(self, name):
        return Place(name, "10.0.0.7", self.port, self.emulated, virtual=False)


class Line:
    """Runs of one recipe with one store; ``calls`` has the works of the last run by stage."""

    def __init__(self, folder, monkeypatch):
        self.path = folder / "recipe.yaml"
        self.store = Store(folder / "store")
        self.boards = Boards()
        self.fail = {}
        self.calls = {}
        for module in (model, build, board):
            for name, role in MADE.items():
                if hasattr(module, name):
                    monkeypatch.setattr(
                        module, name, replace(getattr(module, name), run=self._fake(name, role))
                    )

    def _fake(self, name, role):
        def run(work):
            self.calls.setdefault(name, []).append(work)
            target = work.spec.get("target", {}).get("name")
            for key in (name, (name, target)):
                if key in self.fail:
                    raise self.fail[key]
            if role is None:
                return Made()
            path = work.scratch / "made"
            if name == "BENCH":
                measurement().save(path)
            else:
                asked = {**work.spec, "inputs": {r: p.read_text() for r, p in work.inputs.items()}}
                path.write_text(json.dumps([name, asked]))
            return Made({role: Output(path, role, role)}, FIGURES)

        return run

    def __call__(self, text=RECIPE, **options):
        self.calls.clear()
        self.path.write_text(text)
        plan = make_plan(self.path)
        report = ReportBuilder(run_id="r", recipe=recipe_ref(plan.recipe), tools={}, host=this_host())
        did = runner.Runner("tiny", self.store, report, lambda _: None)
        self.bundles = pipeline.run(plan, did, self.boards, **options)
        return report.build()


def measurement():
    return Measurement.of(
        list(range(1000, 1100)), device="cpu", emulated=False, threads=1, warmup=1, load_ms=1.0, first_ms=1.0,
        peak_rss_kib=1, before=BoardState(), after=BoardState(),
    )  # fmt: skip


def statuses(report):
    return {(s.stage, s.target, s.variant): s.status for s in report.stages}


@pytest.fixture
def line(tmp_path, monkeypatch):
    for kind in ("CONFIG", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    folder = tmp_path / "config/edgepack"
    folder.mkdir(parents=True)
    (folder / "devices.yaml").write_text("edgepack: 1\ndevices:\n  pi: {host: pi, target: rpi4}\n")
    return Line(tmp_path, monkeypatch)


def test_every_stage_runs_once_a_row_and_variant_and_the_next_run_asks_the_board_alone(line):
    first = line()
    assert first.exit_code == 0
    assert {name: len(works) for name, works in line.calls.items()} == {
        "TRAIN": 1, "COMPRESS_TORCH": 1, "EXPORT": 2, "COMPRESS_ONNX": 1, "EVALUATE": 2,
        "TUNE": 2, "COMPILE": 4, "PACKAGE": 4, "DEPLOY": 1, "BENCH": 2,
    }  # fmt: skip
    assert len(line.bundles) == 2
    assert [step.stage for step in first.compression] == ["source", "prune-channels", "quantize-static"]
    second = line()
    assert set(line.calls) == {"DEPLOY"}
    assert second.rows == first.rows


def test_a_dead_board_ends_its_own_row_only(line):
    line.fail["DEPLOY"] = UnreachableError("no route")
    report = line()
    assert report.exit_code == 7
    assert statuses(report)["deploy", "rpi4", "release"] == "failed"
    assert statuses(report)["package", "arm64", "release"] == "done"
    assert ("bench", "rpi4", "release") not in statuses(report)


@pytest.mark.parametrize("error", [EdgepackError("TVM says no"), RuntimeError("a defect")])
def test_what_cannot_be_compiled_for_one_target_is_for_the_other(line, error):
    line.fail["COMPILE", "rpi4"] = error
    report = line()
    assert [b.name for b in line.bundles] == ["bundle"]
    assert statuses(report)["compile", "rpi4", "release"] == "failed"
    assert statuses(report)["package", "arm64", "release"] == "done"


def test_a_step_that_fails_leaves_the_figures_of_those_before(line):
    line.fail["COMPRESS_ONNX"] = InputError("cannot calibrate")
    report = line()
    assert report.exit_code == 2
    assert [step.stage for step in report.compression] == ["source", "prune-channels"]
    assert "TUNE" not in line.calls


def test_a_measurement_is_that_of_the_board_and_its_settings(line):
    line()
    line.boards.port = 2222
    line()
    assert len(line.calls["BENCH"]) == 2
    report = line(RECIPE.replace("targets:", "bench: {runs: 7}\ntargets:"))
    why = {(s.stage, s.variant): s.why for s in report.stages if s.status == "done"}
    assert "bench.runs 100 → 7" in why["bench", "release"]


def test_a_budget_for_once_keeps_the_recipes_seed(line):
    line(until="tune", budget=Tune(trials=100))
    (work, _) = line.calls["TUNE"]
    assert work.resources["budget"] == Tune(trials=100, seed=3)
    assert work.spec["tune"]["trials"] == 8
    assert "COMPILE" not in line.calls


@pytest.mark.parametrize(
    ("spent", "asked", "enough"),
    [
        ((8, 1, "trials"), Tune(trials=8), True),
        ((7, 1, "trials"), Tune(trials=8), False),
        ((7, 1, "exhausted"), Tune(trials=8), True),
        ((7, 60, "minutes"), Tune(trials=8, minutes=1), True),
        ((7, 59, "minutes"), Tune(minutes=1), False),
    ],
)
def test_a_smaller_budget_does_not_answer_for_the_recipes(spent, asked, enough, tmp_path):
    trials, seconds, stopped = spent
    result = TuneResult("rpi4", trials, trials, 0, (), seconds, stopped, tmp_path, (), ())
    assert build._suffices(result, asked) is enough


@pytest.mark.parametrize("emulated", [False, True])
def test_what_was_tuned_before_serves_a_recipe_that_tunes_nothing(line, emulated):
    text = RECIPE.replace("tune: {trials: 8, seed: 3}\n", "")
    line.boards.emulated = emulated
    report = line(text)
    assert "RECALL" not in line.calls
    assert statuses(report)["tune", "rpi4", "release"] == "skipped"
    folder = RecordStore(build.record_root(emulated=emulated)).folder(load_target("rpi4"))
    for count in (1, 2):
        (folder / "tuning_record.json").write_text("[]\n" * count)
        line(text)
        assert [work.spec["emulated"] for work in line.calls["RECALL"]] == [emulated] * 2
        line(text)
        assert "RECALL" not in line.calls
    compiled = line.store.root / "stages"
    assert any("tuning_record" in path.read_text() for path in compiled.iterdir())


def test_records_reach_the_compiler(line):
    line()
    roles = [set(work.inputs) for work in line.calls["COMPILE"] if work.spec["target"]["name"] == "rpi4"]
    assert roles == [{"onnx", "tuning_record.json"}] * 2


def test_the_cuda_compiler_counts_for_gpu_targets_alone(line, tmp_path, monkeypatch):
    text = RECIPE.replace("{target: rpi4, device: pi}", "{target: jetson-orin}")
    nvcc = tmp_path / "nvcc"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    built = []
    for release in ("13.0", "13.0", "13.1"):
        nvcc.write_text(f"#!/bin/sh\necho release {release}\n")
        nvcc.chmod(0o755)
        line(text, until="package")
        built.append({work.spec["target"]["name"] for work in line.calls.get("COMPILE", [])})
    assert built == [{"jetson-orin", "arm64"}, set(), {"jetson-orin"}]
