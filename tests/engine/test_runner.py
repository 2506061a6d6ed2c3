"""Doing one stage: from the store, by work, interrupted, failed, or broken; and what the report says of each."""

import pytest

from edgepack.engine.artifact import USER, Artifact
from edgepack.engine.events import Advanced, StageEnded, StageStarted
from edgepack.engine.runner import Runner, Stopped
from edgepack.engine.stage import Made, Output, Stage
from edgepack.engine.store import Store
from edgepack.errors import EdgepackError, Interrupted, UnreachableError
from edgepack.report.builder import ReportBuilder
from edgepack.report.document import Host, RecipeRef


def builder():
    return ReportBuilder(
        run_id="r",
        recipe=RecipeRef(name="r", version="1.0.0", digest="0"),
        tools={},
        host=Host(system="Linux", machine="x86_64", cores=2, python="3.11"),
    )


@pytest.fixture
def make(tmp_path):
    def runner(fresh=(), events=None):
        listener = (lambda _: None) if events is None else events.append
        return Runner("recipe", Store(tmp_path / "store"), builder(), listener, fresh)

    return runner


class Calls:
    """A stage whose function counts; it raises ``error`` if there is one."""

    def __init__(self, error=None, keep=True):
        self.works = []
        self.error = error
        self.stage = Stage("export", 1, (), (), self.run)
        self.keep = keep

    def run(self, work):
        self.works.append(work)
        work.resources["advanced"]("half", 0.5)
        if self.error is not None:
            raise self.error
        path = work.scratch / "out.bin"
        path.write_bytes(b"".join(p.read_bytes() for p in work.inputs.values()) + repr(work.spec).encode())
        return Made({"onnx": Output(path, "onnx", "model.onnx")}, {"shape": (1, 2)}, keep=self.keep)


def do(runner, calls, spec=None, inputs=None, **options):
    return runner.do(calls.stage, spec=spec or {"a": 1}, inputs=inputs or {}, **options)


def outcomes(runner):
    return [(o.stage, o.target, o.status, o.why) for o in runner.report.build().stages]


def test_work_is_done_once(make):
    calls, runner = Calls(), make()
    first = do(runner, calls)
    again = do(make(), calls)
    assert len(calls.works) == 1
    assert first == again
    assert runner.store.path(first.artifacts["onnx"]).is_file()
    assert first.artifacts["onnx"].made_by == "export"
    assert outcomes(runner) == [("export", None, "done", "first run")]


def test_a_store_that_cannot_be_written_answers_all_the_same(make, monkeypatch):
    calls, runner = Calls(), make()
    do(runner, calls)

    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(runner.store, "remember", refuse)
    do(runner, calls)
    assert [status for _, _, status, _ in outcomes(runner)] == ["done", "cached"]


def test_a_change_is_named(make):
    calls = Calls()
    do(make(), calls, target="rpi4")
    runner = make()
    do(runner, calls, spec={"a": 2}, target="rpi4")
    do(runner, calls, spec={"a": 2}, target="rpi3")
    assert outcomes(runner) == [("export", "rpi4", "done", "a 1 → 2"), ("export", "rpi3", "cached", None)]


def test_a_damaged_result_is_made_again(make):
    calls, runner = Calls(), make()
    path = runner.store.path(do(runner, calls).artifacts["onnx"])
    path.chmod(0o644)
    path.write_bytes(b"rot")
    again = make()
    do(again, calls)
    assert len(calls.works) == 2
    assert outcomes(again) == [("export", None, "done", "its stored result was missing or damaged")]


@pytest.mark.parametrize("fresh", ["export", "prune-channels", "all"])
def test_fresh_by_the_name_of_the_stage_its_label_or_all(make, fresh):
    calls = Calls()
    do(make(), calls, label="prune-channels")
    runner = make(fresh=(fresh,))
    do(runner, calls, label="prune-channels")
    assert len(calls.works) == 2
    assert outcomes(runner) == [("prune-channels", None, "done", "asked for by --fresh")]
    do(make(fresh=("train",)), calls, label="prune-channels")
    assert len(calls.works) == 2


def test_what_asks_the_board_is_never_cached(make):
    calls = Calls()
    do(make(), calls, cached=False)
    do(make(), calls, cached=False)
    do(make(), calls)
    assert len(calls.works) == 3


def test_what_is_less_than_its_spec_promises_is_used_and_not_kept(make):
    less, whole = Calls(keep=False), Calls()
    assert do(make(), less).artifacts
    do(make(), whole)
    assert len(whole.works) == 1
    do(make(), less)
    assert len(less.works) == 1


def test_inputs_are_there_under_their_names_and_those_of_the_user_count_by_digest_alone(make):
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
    with pytest.raises(Stopped):
        do(runner, Calls(error), target="rpi4")
    do(runner, Calls(), target="rpi3")
    report = runner.report.build()
    assert outcomes(runner) == [
        ("export", "rpi4", "failed", "no route to host"),
        ("export", "rpi3", "done", "first run"),
    ]
    assert [(e.message, e.target, e.exit_code) for e in report.errors] == [("no route to host", "rpi4", 4)]
    assert runner.errors == [error]
    assert report.exit_code == 7


def test_a_defect_ends_its_row_only_and_leaves_its_traceback_in_a_file(make, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    runner = make()
    with pytest.raises(Stopped):
        do(runner, Calls(RuntimeError("surprise")), target="rpi4")
    (error,) = runner.report.build().errors
    assert error.message == "internal error: RuntimeError: surprise"
    assert error.exit_code == 1
    (log,) = (tmp_path / "state/edgepack/crashes").iterdir()
    assert str(log) in error.state
    assert "surprise" in log.read_text()


def test_a_full_disk_is_no_defect(make, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    runner = make()
    with pytest.raises(Stopped):
        do(runner, Calls(OSError(28, "No space left on device", "/cache/blob")))
    (error,) = runner.report.build().errors
    assert (error.message, error.where) == ("no space left on device", "/cache/blob")
    assert not (tmp_path / "state").exists()


def test_a_failed_stage_is_tried_again_and_leaves_no_files(make):
    runner = make()
    with pytest.raises(Stopped):
        do(runner, Calls(EdgepackError("no")))
    assert not [p for p in runner.store.root.rglob("*") if p.is_file()]
    calls = Calls()
    do(make(), calls)
    assert len(calls.works) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted("tuning was stopped", state="kept")])
def test_ctrl_c_leaves_the_run_and_is_in_the_report_once(make, error):
    runner = make()
    with pytest.raises(KeyboardInterrupt):
        do(runner, Calls(error), target="rpi4")
    runner.interrupted()
    report = runner.report.build()
    assert [e.exit_code for e in report.errors] == [130]
    assert report.stages[0].status == "failed"
    assert report.exit_code == 130


def test_ctrl_c_between_stages_is_in_the_report(make):
    runner = make()
    runner.interrupted()
    assert runner.report.build().exit_code == 130


def test_events_tell_what_happens(make):
    events = []
    runner = make(events=events)
    calls = Calls()
    do(runner, calls, target="rpi4", variant="release")
    do(runner, calls, target="rpi4", variant="release")
    runner.skip(calls.stage, "no device", target="rpi4")
    assert events[0] == StageStarted("export", "rpi4", "release", "first run")
    assert events[1] == Advanced("half", 0.5)
    ended = [event.outcome.status for event in events[2:] if isinstance(event, StageEnded)]
    assert ended == ["done", "cached", "skipped"]
