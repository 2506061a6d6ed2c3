"""Several candidates, several devices per target: work is done once, each figure has its own row."""

import re
from dataclasses import dataclass, field

import pytest
from pipeline_kit import RECIPE, statuses

from edgepack.compression.ordering import step_labels
from edgepack.compression.registry import METHODS
from edgepack.errors import InputError, UnreachableError
from edgepack.pipeline.candidates import Candidate
from edgepack.pipeline.trace import Trace

PRUNE, QUANTIZE = METHODS["prune-channels"].spec, METHODS["quantize-static"].spec
HALF = PRUNE(method="prune-channels", ratio=0.5)
THIRD = PRUNE(method="prune-channels", ratio=0.3)
INT8 = QUANTIZE(method="quantize-static", samples=8)
BOARDS = RECIPE.replace(
    "  - {target: rpi4, device: pi}\n  - {target: arm64}\n",
    "  - {target: rpi4, devices: [pi, pi2]}\n  - {target: arm64, devices: [arm, arm2]}\n",
)


@dataclass
class Rounds:
    """A strategy that proposes the given candidates and records its trials."""

    rounds: list
    keep: set | None = None
    seen: list = field(default_factory=list)
    told: list = field(default_factory=list)

    def ask(self):
        return self.rounds.pop(0) if self.rounds else ()

    def promote(self, trials):
        self.seen.append([trial.candidate.name for trial in trials if trial.evaluated is not None])
        return [name for name in self.seen[-1] if self.keep is None or name in self.keep]

    def tell(self, trial):
        self.told.append(trial)


THREE = (
    Candidate("baseline"),
    Candidate("int8", (HALF, INT8)),
    Candidate("release", (HALF, THIRD, INT8)),
)


def test_three_candidates_on_two_targets_with_two_devices_each(line):
    strategy = Rounds([THREE])
    report = line(BOARDS, strategy=strategy)
    assert report.exit_code == 0
    assert line.count() == {
        # Each distinct prefix of steps once: (), (half), (half, int8), (half, third), (half, third, int8).
        "Train": 1, "CompressTorch": 2, "Export": 3, "CompressOnnx": 2, "Evaluate": 3,
        # Each candidate and target.
        "Tune": 6, "Compile": 6, "Package": 6,
        # Each candidate and device; the release alone is deployed.
        "Deploy": 4, "Bench": 12,
    }  # fmt: skip
    rows = {(row.target, row.device, row.candidate) for row in report.rows}
    assert rows == {
        (target, device, candidate)
        for target, devices in (("rpi4", ("pi", "pi2")), ("arm64", ("arm", "arm2")))
        for device in devices
        for candidate in ("baseline", "int8", "release")
    }
    assert all(row.measurement is not None and row.bundle_size for row in report.rows)
    assert [trial.candidate.name for trial in strategy.told] == ["baseline", "int8", "release"]
    for trial in strategy.told:
        assert set(trial.measured) == {("rpi4", "pi"), ("rpi4", "pi2"), ("arm64", "arm"), ("arm64", "arm2")}
        assert set(trial.compiled) == {"rpi4", "arm64"}
        assert trial.evaluated.score.value == 0.5
    assert [step.stage for step in strategy.told[2].steps] == [
        "source", "prune-channels-1", "prune-channels-2", "quantize-static",
    ]  # fmt: skip
    line(BOARDS, strategy=Rounds([THREE]))
    assert line.count() == {"Deploy": 4}


def test_the_recipes_own_two_candidates_go_to_every_device(line):
    report = line(BOARDS)
    assert line.count()["Tune"] == 4
    assert {work.resources.device for work in line.calls["TuneStage"]} == {"pi", "arm"}
    assert sorted(work.spec.device for work in line.calls["DeployStage"]) == ["arm", "arm2", "pi", "pi2"]
    assert len(report.rows) == 8
    assert len(line.results) == 2


def test_one_dead_board_leaves_the_other_of_its_target_alone(line):
    line.fail["DeployStage", "pi"] = UnreachableError("no route")
    report = line(BOARDS)
    assert report.exit_code == 7
    assert [(error.target, error.device) for error in report.errors] == [("rpi4", "pi")]
    measured = {(r.device, r.candidate) for r in report.rows if r.measurement is not None}
    assert measured == {
        (device, candidate)
        for device in ("pi", "pi2", "arm", "arm2")
        for candidate in ("baseline", "release")
    } - {("pi", "release")}


def test_rounds_share_what_earlier_rounds_computed(line):
    strategy = Rounds([(Candidate("one", (HALF,)),), (Candidate("two", (HALF, INT8)),)])
    line(strategy=strategy, until="package")
    assert strategy.seen == [["one"], ["two"]]
    assert line.count()["CompressTorch"] == 1
    assert line.count()["Train"] == 1
    assert line.results == []  # neither is the release


def test_only_promoted_candidates_are_built(line):
    strategy = Rounds([THREE], keep={"int8"})
    report = line(strategy=strategy, until="package")
    assert line.count()["Evaluate"] == 3
    assert line.count()["Package"] == 2
    assert {row.candidate for row in report.rows} == {"int8"}
    told = {trial.candidate.name: set(trial.compiled) for trial in strategy.told}
    assert told == {"baseline": set(), "int8": {"rpi4", "arm64"}, "release": set()}


def test_a_candidate_that_fails_is_out_and_the_others_go_on(line):
    line.fail["CompressOnnxStage"] = InputError("cannot calibrate")
    strategy = Rounds([THREE])
    report = line(strategy=strategy, until="package")
    assert strategy.seen == [["baseline"]]
    assert {row.candidate for row in report.rows} == {"baseline"}
    assert statuses(report)["package", "rpi4", "baseline"] == "done"
    assert [trial.evaluated is None for trial in strategy.told] == [False, True, True]


class Mistaken(Rounds):
    """Promotes the given names, whether or not they failed."""

    def promote(self, trials):
        super().promote(trials)
        return self.promoted

    def __init__(self, rounds, promoted):
        super().__init__(rounds)
        self.promoted = promoted


class Failing(Rounds):
    def __init__(self, rounds, method):
        super().__init__(rounds)
        setattr(self, method, self.broken)

    def broken(self, *_):
        raise ZeroDivisionError("no trials")


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (lambda: Rounds([THREE[:1] * 2]), "proposes a duplicate candidate 'baseline'"),
        (lambda: Rounds([THREE[:1], THREE[:1]]), "proposes a duplicate candidate 'baseline'"),
        (lambda: Mistaken([THREE], ["baseline", "int8"]), "promotes 'int8', for which a model stage failed"),
        (lambda: Mistaken([THREE], ["basline"]), "promotes 'basline', which is not a candidate of this round"),
        *((lambda method=method: Failing([THREE], method), rf"failed in {method}\(\)") for method in ("ask", "promote", "tell")),
    ],
)  # fmt: skip
def test_a_strategy_that_fails_ends_the_run_with_a_report(line, strategy, words):
    line.fail["CompressOnnxStage"] = InputError("cannot calibrate")
    report = line(strategy=strategy(), until="package")
    error = report.errors[-1]
    assert (error.type, error.exit_code, error.state) == ("StrategyError", 2, "completed stages are kept")
    assert re.search(words, error.message), error.message
    if "basline" in error.message:
        assert error.next == "did you mean baseline?"
    if "failed in" in error.message:
        assert "ZeroDivisionError: no trials" in error.why
        assert "test_candidates.py:" in error.where
    assert Trace.load(Trace(line.trace.events).save("mistaken")).events == line.trace.events


def test_a_shared_failure_is_reported_for_each_candidate(line):
    line.fail["CompressTorchStage"] = InputError("nothing to prune")
    pair = (Candidate("half", (HALF,)), Candidate("half-int8", (HALF, INT8)), Candidate("baseline"))
    report = line(strategy=Rounds([pair]), until="package")
    failed = {(s.stage, s.candidate): s.why for s in report.stages if s.status == "failed"}
    assert failed == {
        ("prune-channels", "half"): "nothing to prune",
        ("prune-channels", "half-int8"): "nothing to prune",
    }
    assert [error.message for error in report.errors] == ["nothing to prune"]


def test_a_stage_that_serves_all_candidates_fails_once(line):
    line.fail["TrainStage"] = InputError("no data")
    report = line(strategy=Rounds([THREE]), until="package")
    assert [(s.stage, s.candidate) for s in report.stages if s.status == "failed"] == [("train", None)]


def test_steps_on_onnx_cannot_come_before_those_on_torch():
    with pytest.raises(ValueError, match="makes no sense after quantize-static"):
        Candidate("odd", (INT8, HALF))


def test_labels_are_numbered_if_a_method_occurs_more_than_once():
    assert step_labels((HALF, INT8)) == ("prune-channels", "quantize-static")
    assert step_labels((HALF, THIRD, INT8)) == ("prune-channels-1", "prune-channels-2", "quantize-static")
