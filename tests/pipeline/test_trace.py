"""Saved traces give exactly the same report."""

import json

import pytest
from pipeline_kit import RECIPE
from test_candidates import BOARDS, THREE, Rounds

from edgepack.engine.events import ErrorRecord
from edgepack.errors import ConfigError, InputError, Interrupted, Problem, UnreachableError
from edgepack.pipeline.trace import RunInterrupted, Trace, trace_path
from edgepack.reporting.fold import fold


def plain(line):
    line()


def cached(line):
    line()
    line()


def several(line):
    line(BOARDS, strategy=Rounds([THREE]))


def dead_board(line):
    line.fail["BenchStage"] = UnreachableError(
        "no route", where="pi", why="refused", state="as before", next="ping"
    )
    line(RECIPE.replace("targets:", "gates: {accuracy_drop: 0.1, p90_ms: 1}\ntargets:"))


def broken_model(line):
    line.fail["TrainStage"] = ConfigError([Problem("net.py", 1, 2, "no such layer")])
    line()


def no_baseline(line):
    line(RECIPE.replace("targets:", "bench: {baseline: false}\ntargets:"))


def interrupted(line):
    line.fail["CompileStage"] = Interrupted("stopped", state="kept")
    with pytest.raises(KeyboardInterrupt):
        line()
    line.trace(RunInterrupted(error=ErrorRecord.of(Interrupted("interrupted"))))


@pytest.mark.parametrize(
    "run",
    [plain, cached, several, dead_board, broken_model, no_baseline, interrupted],
    ids=lambda f: f.__name__,
)
def test_a_saved_trace_rebuilds_the_report_to_the_byte(run, line):
    run(line)
    report = fold(line.trace.events)
    path = line.trace.save(report.run_id)
    assert path == trace_path(report.run_id)
    loaded = Trace.load(path)
    assert loaded.events == line.trace.events
    assert fold(loaded.events).to_bytes() == report.to_bytes()


def test_the_report_is_that_of_the_events_so_far(line):
    line()
    events = line.trace.events
    stages = [len(fold(events[: count + 1]).stages) for count in range(len(events))]
    assert stages == sorted(stages)
    assert stages[0] == 0
    assert stages[-1] == len(fold(events).stages)


@pytest.mark.parametrize(
    ("spoil", "line_number", "says"),
    [
        (lambda lines: [*lines[:2], "{", *lines[2:]], 3, "not an event"),
        (lambda lines: [*lines[:1], json.dumps({"event": "nothing"})], 2, "not an event"),
        (
            lambda lines: [lines[0].replace('"trace":3', '"trace":99')],
            None,
            "trace version 99, this one reads up to 3; update",
        ),
        (lambda lines: lines[1:], None, "not the trace of a run"),
        (lambda _: [], None, "not the trace of a run"),
    ],
)
def test_what_is_no_trace_is_named_with_its_line(spoil, line_number, says, line):
    line()
    path = line.trace.save("r")
    path.write_text("\n".join(spoil(path.read_text().splitlines())))
    with pytest.raises(InputError, match=says) as caught:
        Trace.load(path)
    assert caught.value.where == (f"{path}:{line_number}" if line_number else str(path))
    with pytest.raises(InputError, match="cannot read"):
        Trace.load(path.with_name("none"))


def test_a_fold_wants_the_beginning(line):
    line()
    with pytest.raises(ValueError, match="starts with RunStarted"):
        fold(line.trace.events[1:])


def test_what_a_method_returned_is_in_the_report(line):
    line()
    steps = {step.stage: step.metrics for step in fold(line.trace.events).compression}
    assert steps["source"] == {}
    assert steps["prune-channels"] == {"macs": [2, 1]}
