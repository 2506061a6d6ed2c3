"""Data flow between stages, with stages that record their requests."""

import pytest
from pipeline_kit import RECIPE, statuses, target_of

from edgepack.config.recipe import Tune
from edgepack.config.target import load_target
from edgepack.engine import keys
from edgepack.engine.events import StageEnded
from edgepack.errors import EdgepackError, InputError, UnreachableError
from edgepack.pipeline.stages.tune import suffices
from edgepack.tuning import RecordStore, TuneResult


def test_every_stage_runs_once_and_the_next_run_is_cached_except_for_deploy(line):
    first = line()
    assert first.exit_code == 0
    assert line.count() == {
        "Train": 1, "CompressTorch": 1, "Export": 2, "CompressOnnx": 1, "Evaluate": 2,
        "Tune": 2, "Compile": 4, "Package": 4, "Deploy": 1, "Bench": 2,
    }  # fmt: skip
    assert len(line.results) == 2
    assert [step.stage for step in first.compression] == ["source", "prune-channels", "quantize-static"]
    second = line()
    assert set(line.count()) == {"Deploy"}
    assert second.rows == first.rows


def test_the_report_lists_stages_as_they_ran(line):
    report = line()
    assert [(s.stage, s.target, s.candidate) for s in report.stages] == [
        ("train", None, None),
        ("export", None, "baseline"),
        ("evaluate", None, "baseline"),
        ("prune-channels", None, None),
        ("export", None, "release"),
        ("quantize-static", None, None),
        ("evaluate", None, "release"),
        ("tune", "rpi4", "baseline"),
        ("compile", "rpi4", "baseline"),
        ("package", "rpi4", "baseline"),
        ("bench", "rpi4", "baseline"),
        ("tune", "rpi4", "release"),
        ("compile", "rpi4", "release"),
        ("package", "rpi4", "release"),
        ("deploy", "rpi4", "release"),
        ("bench", "rpi4", "release"),
        ("tune", "arm64", "baseline"),
        ("compile", "arm64", "baseline"),
        ("package", "arm64", "baseline"),
        ("deploy", "arm64", "baseline"),
        ("bench", "arm64", "baseline"),
        ("tune", "arm64", "release"),
        ("compile", "arm64", "release"),
        ("package", "arm64", "release"),
        ("deploy", "arm64", "release"),
        ("bench", "arm64", "release"),
    ]


def test_a_dead_board_ends_its_own_row_only(line):
    line.fail["DeployStage"] = UnreachableError("no route")
    report = line()
    assert report.exit_code == 7
    assert statuses(report)["deploy", "rpi4", "release"] == "failed"
    assert statuses(report)["package", "arm64", "release"] == "done"
    assert ("bench", "rpi4", "release") not in statuses(report)


@pytest.mark.parametrize("error", [EdgepackError("TVM says no"), RuntimeError("a defect")])
def test_what_cannot_be_compiled_for_one_target_is_for_the_other(line, error):
    line.fail["CompileStage", "rpi4"] = error
    report = line()
    assert [b.name for b in line.results] == ["bundle"]
    assert statuses(report)["compile", "rpi4", "release"] == "failed"
    assert statuses(report)["package", "arm64", "release"] == "done"


def test_a_step_that_fails_leaves_the_figures_of_those_before(line):
    line.fail["CompressOnnxStage"] = InputError("cannot calibrate")
    report = line()
    assert report.exit_code == 2
    assert [step.stage for step in report.compression] == ["source", "prune-channels"]
    assert "Tune" not in line.count()
    assert report.rows == ()


def test_a_model_that_cannot_be_trained_fails_once(line):
    line.fail["TrainStage"] = InputError("no such network")
    report = line()
    assert line.count() == {"Train": 1}
    assert [error.message for error in report.errors] == ["no such network"]
    assert statuses(report) == {("train", None, None): "failed"}


def test_a_measurement_is_that_of_the_board_and_its_settings(line):
    line()
    line.boards.port = 2222
    line()
    assert line.count()["Bench"] == 2
    report = line(RECIPE.replace("targets:", "bench: {runs: 7}\ntargets:"))
    why = {(s.stage, s.candidate): s.why for s in report.stages if s.status == "done"}
    assert "bench.runs 100 → 7" in why["bench", "release"]


@pytest.mark.parametrize(
    ("edited", "reasons"),
    [
        (
            RECIPE.replace("name: tiny\n", "name: tiny\nversion: 2.0.0\n"),
            {"package": "version 0.1.0 → 2.0.0", "bench": "bundle changed"},
        ),
        (
            RECIPE.replace("ratio: 0.5", "ratio: 0.4"),
            {
                "prune-channels": "step.ratio 0.5 → 0.4",
                "tune": "onnx changed",
                "compile": "onnx changed",
                "package": "compress.0.ratio 0.5 → 0.4",
                "bench": "bundle changed",
            },
        ),
        (
            RECIPE.replace("trials: 8", "trials: 16"),
            {
                "tune": "tune.trials 8 → 16",
                "compile": "tuning records changed",
                "package": "model changed",
                "bench": "bundle changed",
            },
        ),
    ],
    ids=["version", "ratio", "trials"],
)
def test_one_change_is_one_reason_for_each_stage(line, edited, reasons):
    line()
    report = line(edited)
    why = {s.stage: s.why for s in report.stages if s.status == "done" and s.candidate == "release"}
    why |= {
        s.stage: s.why
        for s in report.stages
        if s.status == "done" and s.stage in reasons and s.candidate is None
    }
    assert {stage: why.get(stage) for stage in reasons} == reasons


def test_without_a_baseline_nothing_is_measured_again(line):
    line()
    report = line(RECIPE.replace("targets:", "bench: {baseline: false}\ntargets:"))
    assert set(line.count()) == {"Deploy"}
    baseline = next(row for row in report.rows if (row.target, row.candidate) == ("rpi4", "baseline"))
    assert "bench.baseline" in baseline.missing["measurement"]
    assert baseline.score_torch.value == 0.5


def test_an_overriding_budget_does_not_change_the_key(line):
    line(until="tune", budget=Tune(trials=100))
    (work, _) = line.calls["TuneStage"]
    assert work.resources.budget == Tune(trials=100)
    assert work.resources.device == "pi"
    assert (work.spec.tune.trials, work.spec.tune.seed) == (8, 3)
    assert "Compile" not in line.count()


@pytest.mark.parametrize(
    ("spent", "asked", "enough"),
    [
        ((8, 1, "trials"), Tune(trials=8), True),
        ((7, 1, "trials"), Tune(trials=8), False),
        ((7, 1, "exhausted"), Tune(trials=8), True),
        ((7, 1, "settled"), Tune(trials=8), True),
        ((7, 60, "minutes"), Tune(trials=8, minutes=1), True),
        ((7, 59, "minutes"), Tune(minutes=1), False),
    ],
)
def test_a_smaller_budget_does_not_answer_for_the_recipes(spent, asked, enough, tmp_path):
    trials, seconds, stopped = spent
    result = TuneResult("rpi4", trials, trials, 0, (), seconds, stopped, tmp_path, (), ())
    assert suffices(result, asked) is enough


@pytest.mark.parametrize("emulated", [False, True])
def test_little_is_measured_on_an_emulated_board(line, emulated):
    line.boards.emulated = {"pi"} if emulated else set()
    line(RECIPE + "bench: {runs: 500, warmup: 300}\n")
    taken = {(work.spec.bench.runs, work.spec.bench.warmup) for work in line.calls["BenchStage"]}
    assert taken == {(30, 3) if emulated else (500, 300)}


JETSON = RECIPE.replace("{target: rpi4, device: pi}", "{target: jetson-orin, device: orin}")


def test_few_inferences_are_timed_on_an_emulated_gpu(line):
    line.boards.emulated = line.boards.virtual = {"orin"}
    for more, samples in (("", None), (", accuracy_samples: 7", 7)):
        line(JETSON + f"bench: {{runs: 500, warmup: 300{more}}}\n")
        taken = {
            (work.spec.bench.runs, work.spec.bench.warmup, work.spec.bench.accuracy_samples)
            for work in line.calls["BenchStage"]
        }
        assert taken == {(3, 0, samples)}


@pytest.mark.parametrize("emulated", [False, True])
def test_kernel_sources_go_to_an_emulated_gpu_alone(line, emulated):
    line.boards.emulated = line.boards.virtual = {"orin"} if emulated else set()
    line(JETSON)
    sources = {"kernels"} if emulated else set()
    assert [set(work.inputs) for work in line.calls["DeployStage"]] == [{"bundle", *sources}]
    assert [set(work.inputs) for work in line.calls["BenchStage"]] == [{"bundle", "samples", *sources}] * 2
    assert {work.spec.emulated_gpu for work in line.calls["BenchStage"]} == {emulated}
    assert all("kernels" not in work.inputs for work in line.calls["PackageStage"])


def test_a_build_ends_with_bundles_and_their_kernel_sources(line):
    line(JETSON, until="package")
    assert [(made.kind, made.name) for made in line.results] == [
        ("bundle", "bundle"),
        ("kernel-sources", "bundle.kernels.cu"),
        ("bundle", "bundle"),
    ]


def test_a_result_without_kernel_sources_is_not_one_of_this_version(line, monkeypatch):
    """The compile stage's own code is in its key: a result that was stored before has no sources."""
    line(JETSON, until="package")
    key = keys.code_digest
    monkeypatch.setattr(
        keys,
        "code_digest",
        lambda part: f"{key(part)} before" if part == "pipeline/stages/compile.py" else key(part),
    )
    line(JETSON, until="package")
    assert line.count()["Compile"] == 4


@pytest.mark.parametrize("emulated", [False, True])
def test_what_was_tuned_before_serves_a_recipe_that_tunes_nothing(line, emulated):
    text = RECIPE.replace("tune: {trials: 8, seed: 3}\n", "")
    line.boards.emulated = {"pi"} if emulated else set()
    report = line(text)
    assert "Recall" not in line.count()
    assert statuses(report)["tune", "rpi4", "release"] == "skipped"
    folder = RecordStore.of_user(emulated=emulated).folder(load_target("rpi4"))
    for count in (1, 2):
        (folder / "tuning_record.json").write_text("[]\n" * count)
        report = line(text)
        assert [work.spec.emulated for work in line.calls["RecallStage"]] == [emulated] * 2
        found = {key: status for key, status in statuses(report).items() if key[1] == "rpi4"}
        assert found["tune", "rpi4", "release"] == "skipped"
        assert found["recall", "rpi4", "release"] == "done"
        line(text)
        assert "Recall" not in line.count()
    compiled = line.store.root / "stages"
    assert any("tuning_record" in path.read_text() for path in compiled.iterdir())


def test_records_reach_the_compiler_as_its_inputs(line):
    line()
    roles = [set(work.inputs) for work in line.calls["CompileStage"] if target_of(work) == "rpi4"]
    assert roles == [{"onnx", "workload.json", "tuning_record.json"}] * 2
    roles = [set(work.inputs) for work in line.calls["CompileStage"] if target_of(work) == "arm64"]
    assert roles == [{"onnx"}] * 2


def test_the_cuda_compiler_counts_for_gpu_targets_alone(line, tmp_path, monkeypatch):
    text = RECIPE.replace("{target: rpi4, device: pi}", "{target: jetson-orin}")
    nvcc = tmp_path / "nvcc"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    built = []
    for release in ("13.0", "13.0", "13.1"):
        nvcc.write_text(f"#!/bin/sh\necho release {release}\n")
        nvcc.chmod(0o755)
        line(text, until="package")
        built.append({target_of(work) for work in line.calls.get("CompileStage", [])})
    assert built == [{"jetson-orin", "arm64"}, set(), {"jetson-orin"}]


def test_two_steps_of_the_same_method_have_a_name_each(line):
    again = "  - {method: prune-channels, ratio: 0.3}\n  - {method: quantize"
    text = RECIPE.replace("  - {method: quantize", again)
    report = line(text)
    assert [step.stage for step in report.compression] == [
        "source", "prune-channels-1", "prune-channels-2", "quantize-static",
    ]  # fmt: skip
    assert [work.spec.step.ratio for work in line.calls["CompressTorchStage"]] == [0.5, 0.3]
    report = line(text, fresh=("prune-channels-2",))
    why = {s.stage: s.why for s in report.stages if s.status == "done" and s.target is None}
    assert why == {"prune-channels-2": "requested by --fresh"}
    report = line(text, fresh=("prune-channels",))
    assert {s.stage for s in report.stages if s.status == "done" and s.target is None} == {
        "prune-channels-1",
        "prune-channels-2",
    }
    changed = text.replace("ratio: 0.3", "ratio: 0.4")
    why = {s.stage: s.why for s in line(changed).stages if s.status == "done"}
    assert why["prune-channels-2"] == "step.ratio 0.3 → 0.4"
    assert "prune-channels-1" not in why


def test_a_change_for_one_target_is_none_for_the_other(line):
    line()
    report = line(
        RECIPE.replace("{target: rpi4, device: pi}", "{target: rpi4, device: pi, tune: {trials: 9}}")
    )
    assert {s.target for s in report.stages if s.status == "done"} == {"rpi4"}
    assert {s.status for s in report.stages if s.target == "arm64"} == {"cached", "skipped"}


def test_every_event_has_its_place(line):
    line()
    ended = [event for event in line.trace.events if isinstance(event, StageEnded)]
    assert all(event.scope.candidate for event in ended)
    for event in ended:
        scope = event.scope
        assert (scope.target is None) == (scope.stage in {"train", "export", "compress", "evaluate"})
        assert (scope.device == "pi") == (scope.stage in {"deploy", "bench"} and scope.target == "rpi4")


def test_a_targets_notes_do_not_affect_results(line, tmp_path):
    folder = tmp_path / "config/edgepack/targets"
    folder.mkdir()
    file = folder / "mine.yaml"
    mine = (
        "edgepack: 1\nname: mine\nextends: rpi4\ntitle: Mine\nnotes: [{text: a board, source: its manual}]\n"
    )
    recipe = RECIPE.replace("{target: rpi4, device: pi}", "{target: mine, device: pi}")
    file.write_text(mine)
    line(recipe)
    file.write_text(
        mine.replace("a board", "the board").replace("title: Mine", "title: My own") + "memory_mib: 512\n"
    )
    line(recipe)
    assert set(line.count()) == {"Deploy"}
    file.write_text(file.read_text() + "tune: {repeats: 9}\n")
    line(recipe)
    assert "Tune" in line.count()
