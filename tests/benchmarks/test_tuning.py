"""benchmarks/tuning: the log, curves of trials, busy seconds, figures, table and charts. Tuning has its own tests."""

import itertools
import logging
import time
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.kit import documents
from benchmarks.tuning import charts, measure, page
from benchmarks.tuning.__main__ import STOCK, parse
from benchmarks.tuning.contestants.stock import Picked, search_seconds
from benchmarks.tuning.curves import Point, at, band, busy, curve, rates
from benchmarks.tuning.log import PHASES, Log, TunerTrial, TuningJob, Writer, read

WEIGHTS = {"a": 1, "b": 3}
UNTUNED = {"a": 10.0, "b": 4.0}
TRIALS = st.lists(
    st.builds(
        TunerTrial,
        st.floats(0, 600),
        st.sampled_from(["a", "b", "elsewhere"]),
        st.none() | st.floats(0.001, 100),
    ),
    max_size=60,
)


@settings(deadline=None)  # a busy machine is no defect
@given(trials=TRIALS)
def test_a_curve_starts_untuned_never_rises_and_ends_at_the_best_of_each_kernel(trials):
    points = curve(trials, WEIGHTS, UNTUNED)
    assert points[0] == Point(0.0, 0, 22.0)
    assert [point.trials for point in points] == list(range(len(trials) + 1))
    assert all(b.predicted_ms <= a.predicted_ms for a, b in itertools.pairwise(points))
    assert all(b.seconds >= a.seconds for a, b in itertools.pairwise(points))
    best = {
        name: min([UNTUNED[name], *(t.ms for t in trials if t.workload == name and t.ms is not None)])
        for name in WEIGHTS
    }
    assert points[-1].predicted_ms == pytest.approx(best["a"] + 3 * best["b"])


def test_a_curve_holds_its_value_until_the_next_point():
    points = curve(
        [TunerTrial(30.0, "b", 2.0), TunerTrial(10.0, "a", 7.0), TunerTrial(20.0, "a", None)],
        WEIGHTS,
        UNTUNED,
    )
    assert [at(points, "seconds", s) for s in (0, 9.9, 10, 29, 30, 99)] == [22, 22, 19, 19, 13, 13]
    assert [at(points, "trials", n) for n in (0, 1, 2, 3, 9)] == [22, 19, 19, 13, 13]


def test_a_band_is_the_least_the_median_and_the_most():
    curves = [[Point(0.0, 0, 10.0), Point(5.0, 1, end)] for end in (1.0, 2.0, 6.0)]
    bands = band(curves, "seconds", 10.0, places=2)
    assert [(b.x, b.low, b.median, b.high) for b in bands] == [(0, 10, 10, 10), (5, 1, 2, 6), (10, 1, 2, 6)]


@settings(deadline=None)  # a busy machine is no defect
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 10)), max_size=30))
def test_busy_seconds_count_what_overlaps_once(starts):
    pieces = [(float(began), float(began + length)) for began, length in starts]
    covered = {second for began, length in starts for second in range(began, began + length)}
    assert busy(pieces) == len(covered)


@settings(deadline=None)  # a busy machine is no defect
@given(
    seconds=st.floats(1, 1000),
    shares=st.lists(st.floats(0, 1), max_size=50),
)
def test_rates_in_buckets_add_up_to_all_trials(seconds, shares):
    found = rates([TunerTrial(share * seconds, "a", None) for share in shares], seconds, bucket_s=60.0)
    lengths = [60.0] * (len(found) - 1) + [seconds - 60.0 * (len(found) - 1)]
    assert 0 < lengths[-1] <= 60
    assert sum(r * length / 60 for r, length in zip(found, lengths, strict=True)) == pytest.approx(
        len(shares)
    )


def test_what_is_logged_is_read_back_and_a_torn_line_left_out(tmp_path):
    job = TuningJob("net.onnx", "host", str(tmp_path), 1.0, 10, 0, time.monotonic())
    with Writer(job) as log:
        log.write(trial="a", at=3.0, ms=1.5)
        log.write(trial="b", at=4.0, ms=None)
        log.write(phase="build", began=1.0, ended=None)
        log.write(phase="build", began=1.0, ended=2.0)
        log.write(phase="measure", began=2.5, ended=None)
        log.write(profile={"EvoSearch": 1.0})
        log.write(profile={"EvoSearch": 2.0})
        log.write(note="slow")
        log.write(recorded=2)
        log.write(recorded=1)
        assert log.now >= 0
    text = (tmp_path / "log.jsonl").read_text()
    found = read([*text.splitlines(), '{"trial": "a", "at"'], seconds=9.0)
    assert found.trials == [TunerTrial(3.0, "a", 1.5), TunerTrial(4.0, "b", None)]
    assert found.pieces == {"search": [], "build": [(1.0, 2.0)], "transfer": [], "measure": [(2.5, 9.0)]}
    assert (found.profile, found.notes, found.recorded) == ({"EvoSearch": 2.0}, ["slow"], 3)


def test_the_profilers_scopes_within_scopes_are_counted_once():
    profile = {
        "Total": 99.0,
        "EvoSearch/Evolve": 5.0,
        "EvoSearch/Evolve/Mutation": 2.0,
        "EvoSearch/SampleInitPopulation": 1.0,
        "MeasureCallback/UpdateCostModel": 0.5,
        "SendToBuilder": 40.0,
    }
    assert search_seconds(profile) == pytest.approx(6.5)


def test_the_kernel_at_work_is_read_from_the_schedulers_log():
    picked = Picked(["a", "b"])
    with pytest.raises(RuntimeError, match="which kernel"):
        _ = picked.workload
    picked.handle(
        logging.makeLogRecord({"msg": '[task_scheduler.cc:195] TaskScheduler picks Task #1: "conv2d"'})
    )
    assert picked.workload == "b"
    picked.handle(logging.makeLogRecord({"msg": "Sending 64 sample(s) to builder"}))
    assert picked.workload == "b"


def _log():
    return Log(
        trials=[TunerTrial(20.0, "a", 5.0), TunerTrial(40.0, "b", None), TunerTrial(50.0, "b", 3.0)],
        pieces={
            "search": [(5.0, 9.0)],
            "build": [(9.0, 12.0), (10.0, 14.0)],
            "transfer": [],
            "measure": [(14.0, 20.0)],
        },
        profile={"EvoSearch/Evolve": 8.0},
        notes=["1 candidate failed: timeout"],
    )


def test_figures_of_a_run():
    ours = measure.figures(_log(), 60.0, WEIGHTS, UNTUNED, stock=False)
    assert (ours["tried"], ours["failed"], ours["trials_per_minute"]) == (3, 1, 3.0)
    assert (ours["untuned_ms"], ours["predicted_ms"], ours["first_result_s"]) == (22.0, 14.0, 20.0)
    assert ours["busy_s"] == {"search": 4.0, "build": 5.0, "transfer": 0.0, "measure": 6.0}
    assert measure.points_of(ours) == curve(_log().trials, WEIGHTS, UNTUNED)
    stock = measure.figures(_log(), 60.0, WEIGHTS, UNTUNED, stock=True)
    assert stock["busy_s"]["search"] == 8.0


def _document():
    built = {"built_ms": 12.0, "built_untuned_ms": 25.0, "built_samples_ms": [12.0]}
    ours = {**measure.figures(_log(), 60.0, WEIGHTS, UNTUNED, stock=False), **built}
    nothing = measure.figures(
        Log(notes=["the first that failed of 64: <Timeout>"]), 60.0, WEIGHTS, UNTUNED, stock=True
    )
    nothing |= {"built_ms": None, "built_untuned_ms": 190.0, "built_samples_ms": []}
    return {
        "net": "small",
        "target": "host",
        "minutes": 1.0,
        "trials": None,
        "sides": {"edgepack": "edgepack", "default": "stock TVM"},
        "runs": {"edgepack": [ours, ours], "default": [nothing, nothing]},
    }


def test_the_table_says_what_was_found_and_what_was_not():
    shown = page.text(_document())
    rows = {line.split("  ")[0].strip(): line for line in shown.splitlines()}
    assert "14 (14 to 14)" in rows["predicted, ms"]
    assert rows["built, ms"].endswith("none")
    assert "stock TVM: the first that failed of 64: <Timeout>" in shown
    assert "2 runs of each tuner" in shown


def test_results_are_written_and_the_charts_are_well_formed(tmp_path):
    page.write(_document(), tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "tuning.md",
        "tuning-minutes.svg",
        "tuning-trials.svg",
        "tuning-phases.svg",
    }
    documents.write(tmp_path / "out" / "tuning.json", _document(), indent=None)
    assert documents.read(tmp_path / "out" / "tuning.json")["net"] == "small"
    for name in sorted(names):
        if name.endswith(".svg"):
            drawing = ET.fromstring((tmp_path / "out" / name).read_text())  # noqa: S314 - our own file
            words = [element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")]
            assert any("edgepack" in word for word in words)
            assert any("stock TVM" in word for word in words)
            assert "prefers-color-scheme: dark" in drawing[1].text
            assert f"({name})" in (tmp_path / "out" / "tuning.md").read_text()
    lines = ET.fromstring((tmp_path / "out" / "tuning-minutes.svg").read_text())  # noqa: S314
    assert len(lines.findall("{http://www.w3.org/2000/svg}circle")) == 1  # stock built nothing


@settings(deadline=None)  # a busy machine is no defect
@given(st.lists(st.floats(0, 300), max_size=5))
def test_labels_keep_their_order_and_distance(wanted):
    places = charts.spread(wanted, 20.0, 50.0, 300.0)
    ordered = sorted(places)
    assert all(b - a >= 20.0 - 1e-6 for a, b in itertools.pairwise(ordered))
    assert all(50.0 - 1e-6 <= place <= 300.0 for place in places)
    assert sorted(range(len(wanted)), key=places.__getitem__) == sorted(
        range(len(wanted)), key=wanted.__getitem__
    )


@pytest.mark.parametrize(
    "argv", [["--minutes", "0"], ["--repeat", "0"], ["--trials", "0"], ["--stock", "fast"]]
)
def test_wrong_arguments_are_refused(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(argv)
    assert ended.value.code == 2
    assert capsys.readouterr().err


def test_both_of_stocks_settings_run_unless_told_otherwise():
    assert parse([]).stock == list(STOCK)
    assert parse(["--stock"]).stock == []
    assert set(PHASES) == {"search", "build", "transfer", "measure"}
