"""Running one stage: cached, done, interrupted or failed, with the events of each."""

from dataclasses import dataclass

import pytest

from edgepack.engine.artifact import USER, Artifact
from edgepack.engine.events import Advanced, Scope, StageEnded, StageStarted
from edgepack.engine.runner import Runner, StageFailed
from edgepack.engine.stage import Ingredients, Output, Request, Stage, StageResult
from edgepack.engine.store import Store
from edgepack.errors import EdgepackError, Interrupted, UnreachableError
from edgepack.spec import Spec


class Asked(Spec):
    a: int = 1


class Found(Spec):
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Resources:
    word: str = "half"


class Calls(Stage):
    """A stage that counts its runs; raises ``error`` if given."""

    name = "export"
    figures = Found

    def __init__(self, error=None, keep=True, cached=True):
        self.works = []
        self.error = error
        self.keep = keep
        self.cached = cached

    def ingredients(self, spec):
        return Ingredients()

    def run(self, work):
        self.works.append(work)
        work.progress(work.resources.word, 0.5)
        if self.error is not None:
            raise self.error
        path = work.scratch / "out.bin"
        path.write_bytes(b"".join(p.read_bytes() for p in work.inputs.values()) + repr(work.spec).encode())
        files = {"onnx": Output(path, "onnx", "model.onnx")}
        return StageResult(Found(shape=(1, 2)), files, keep=self.keep)


@pytest.fixture
def make(tmp_path):
    def runner(fresh=(), events=None):
        told = [] if events is None else events
        made = Runner("recipe", Store(tmp_path / "store"), told.append, fresh)
        made.told = told
        return made

    return runner


def do(runner, calls, spec=None, inputs=None, *, label=None, aliases=(), **place):
    request = Request(spec or Asked(), inputs or {}, label, aliases)
    scope = Scope(stage=calls.name, label=label or calls.name, **place)
    return runner.do(calls, request, scope, Resources())


def ended(runner):
    return [event for event in runner.told if isinstance(event, StageEnded)]


def outcomes(runner):
    return [(e.scope.label, e.scope.target, e.status, e.why) for e in ended(runner)]


def errors(runner):
    return [event.error for event in ended(runner) if event.error is not None]


def test_work_is_done_once(make):
    calls, runner = Calls(), make()
    first = do(runner, calls)
    again = do(make(), calls)
    assert len(calls.works) == 1
    assert first == again
    assert first.figures == Found(shape=(1, 2))
    assert runner.store.path(first.artifacts["onnx"]).is_file()
    assert first.artifacts["onnx"].made_by == "export"
    assert outcomes(runner) == [("export", None, "done", "first run")]


def test_work_of_two_candidates_is_done_once_and_reported_for_both(make):
    calls, runner = Calls(), make(fresh=("all",))
    first = do(runner, calls, candidate="one")
    second = do(runner, calls, candidate="two")
    assert len(calls.works) == 1
    assert first == second
    assert [(e.scope.candidate, e.status) for e in ended(runner)] == [("one", "done"), ("two", "shared")]
    assert ended(runner)[1].figures == ended(runner)[0].figures == {"shape": [1, 2]}


def test_shared_work_that_failed_fails_for_the_next_candidate_and_is_reported_once(make):
    calls, runner = Calls(EdgepackError("no")), make()
    for candidate in ("one", "two"):
        with pytest.raises(StageFailed):
            do(runner, calls, candidate=candidate, shared=True)
    assert len(calls.works) == 1
    assert [error.message for error in errors(runner)] == ["no"]


def test_a_store_that_cannot_be_written_answers_all_the_same(make, monkeypatch):
    calls, runner = Calls(), make()
    do(runner, calls)

    def refuse(*_):
        raise OSError(30, "Read-only file system")

    again = make()
    monkeypatch.setattr(again.store, "remember", refuse)
    do(again, calls)
    assert [status for _, _, status, _ in outcomes(runner)] == ["done"]
    assert [status for _, _, status, _ in outcomes(again)] == ["cached"]


def test_a_change_is_named(make):
    calls = Calls()
    do(make(), calls, target="rpi4")
    runner = make()
    do(runner, calls, Asked(a=2), target="rpi4")
    third = make()
    do(third, calls, Asked(a=2), target="rpi3")
    assert outcomes(runner) == [("export", "rpi4", "done", "a 1 → 2")]
    assert outcomes(third) == [("export", "rpi3", "cached", None)]


@pytest.mark.parametrize("place", [{"candidate": "other"}, {"device": "pi"}, {"target": "rpi4"}])
def test_what_a_stage_last_ran_with_is_kept_for_each_place(make, place):
    do(make(), Calls())
    runner = make()
    do(runner, Calls(), Asked(a=2), **place)
    assert outcomes(runner)[0][3] == "first run"


def test_a_damaged_result_is_recomputed(make):
    calls, runner = Calls(), make()
    path = runner.store.path(do(runner, calls).artifacts["onnx"])
    path.chmod(0o644)
    path.write_bytes(b"rot")
    again = make()
    do(again, calls)
    assert len(calls.works) == 2
    assert outcomes(again) == [("export", None, "done", "its stored result was missing or damaged")]


def test_figures_of_another_type_are_recomputed(make):
    calls, runner = Calls(), make()
    do(runner, calls)
    (record,) = (runner.store.root / "stages").iterdir()
    record.write_text(record.read_text().replace("[1,2]", '"none"'))
    assert do(make(), calls).figures == Found(shape=(1, 2))
    assert len(calls.works) == 2


@pytest.mark.parametrize("fresh", ["export", "prune-channels-2", "prune-channels", "all"])
def test_fresh_by_the_name_of_the_stage_its_label_its_alias_or_all(make, fresh):
    calls, named = Calls(), {"label": "prune-channels-2", "aliases": ("prune-channels",)}
    do(make(), calls, **named)
    runner = make(fresh=(fresh,))
    do(runner, calls, **named)
    assert len(calls.works) == 2
    assert outcomes(runner) == [("prune-channels-2", None, "done", "requested by --fresh")]
    do(make(fresh=("train",)), calls, **named)
    assert len(calls.works) == 2


def test_stages_that_ask_the_board_are_never_cached(make):
    calls, runner = Calls(cached=False), make()
    do(runner, calls)
    do(runner, calls)
    do(make(), calls)
    assert len(calls.works) == 3


def test_what_is_less_than_its_spec_promises_is_used_and_not_kept(make):
    less, whole = Calls(keep=False), Calls()
    assert do(make(), less).artifacts
    do(make(), whole)
    assert len(whole.works) == 1
    do(make(), less)
    assert len(less.works) == 1


def test_inputs_keep_their_names_and_user_files_count_by_digest(make):
    calls, runner = Calls(), make()
    model = do(runner, calls).artifacts["onnx"]
    mine = Artifact(kind="input", name="net.py", sha256="1", size=1, made_by=USER)
    made = do(runner, calls, inputs={"onnx": model, "code": mine})
    assert [p.name for p in calls.works[-1].inputs.values()] == ["model.onnx"]
    assert made.artifacts["onnx"].parents == (model.sha256, "1")
    do(runner, calls, inputs={"onnx": model, "code": mine.model_copy(update={"sha256": "2"})})
    assert len(calls.works) == 3


def test_an_error_ends_its_row_only(make):
    runner = make()
    error = UnreachableError("no route to host", where="pi")
    with pytest.raises(StageFailed):
        do(runner, Calls(error), Asked(a=7), target="rpi4", device="pi")
    do(runner, Calls(), target="rpi3")
    assert outcomes(runner) == [
        ("export", "rpi4", "failed", "no route to host"),
        ("export", "rpi3", "done", "first run"),
    ]
    assert [(e.message, e.stage, e.target, e.device, e.exit_code) for e in errors(runner)] == [
        ("no route to host", "export", "rpi4", "pi", 4)
    ]
    assert runner.errors == [error]


def test_a_defect_ends_its_row_only_and_leaves_its_traceback_in_a_file(make, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    runner = make()
    with pytest.raises(StageFailed):
        do(runner, Calls(RuntimeError("surprise")), target="rpi4")
    (error,) = errors(runner)
    assert error.message == "internal error: RuntimeError: surprise"
    assert error.exit_code == 1
    (log,) = (tmp_path / "state/edgepack/crashes").iterdir()
    assert str(log) in error.state
    assert "surprise" in log.read_text()


def test_a_full_disk_is_no_defect(make, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    runner = make()
    with pytest.raises(StageFailed):
        do(runner, Calls(OSError(28, "No space left on device", "/cache/blob")))
    (error,) = errors(runner)
    assert (error.message, error.where) == ("no space left on device", "/cache/blob")
    assert not (tmp_path / "state").exists()


def test_a_failed_stage_is_tried_again_by_the_next_run_and_leaves_no_files(make):
    runner = make()
    with pytest.raises(StageFailed):
        do(runner, Calls(EdgepackError("no")))
    assert not [p for p in runner.store.root.rglob("*") if p.is_file()]
    calls = Calls()
    do(make(), calls)
    assert len(calls.works) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted("tuning was interrupted", state="kept")])
def test_ctrl_c_ends_the_run_and_is_reported_once(make, error):
    runner = make()
    with pytest.raises(KeyboardInterrupt):
        do(runner, Calls(error), target="rpi4")
    assert runner.add_interrupt() is None
    assert [e.exit_code for e in errors(runner)] == [130]
    assert ended(runner)[0].status == "failed"


def test_ctrl_c_between_stages_is_an_error_of_the_run(make):
    runner = make()
    assert runner.add_interrupt().exit_code == 130
    assert runner.add_interrupt() is None


def test_events_of_a_run(make):
    runner = make()
    calls = Calls()
    place = {"target": "rpi4", "candidate": "release"}
    do(runner, calls, **place)
    do(make(events=runner.told), calls, **place)
    runner.skip("no device", Scope(stage="bench", label="bench", target="rpi4"))
    scope = Scope(stage="export", label="export", **place)
    assert runner.told[0] == StageStarted(scope=scope, why="first run")
    assert runner.told[1] == Advanced(text="half", share=0.5)
    assert [event.status for event in ended(runner)] == ["done", "cached", "skipped"]
