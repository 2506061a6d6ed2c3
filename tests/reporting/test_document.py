import json

import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgepack.config.recipe import Gates
from edgepack.errors import (
    AgentError,
    ConfigError,
    DeployError,
    EdgepackError,
    FleetError,
    InputError,
    Interrupted,
    LockedError,
    ModelProblem,
    Problem,
    UnreachableError,
    UnsupportedError,
)
from edgepack.pipeline.begin import this_host, tool_versions
from edgepack.pipeline.trace import Placement
from edgepack.reporting.document import ModelRow, Outcome, Report, Row
from edgepack.reporting.figures import FIGURES, cell, columns, figures_of, headline, title
from edgepack.reporting.gates import check_gates, check_step_gates
from edgepack.reporting.html import to_html
from edgepack.reporting.markdown import to_markdown
from edgepack.reporting.terminal import plain_lines


@pytest.mark.parametrize("make", [samples.good, samples.bad, samples.empty])
def test_json_round_trip(make, tmp_path):
    report = make()
    assert Report.load(report.save(tmp_path / "deep/er/report.json")) == report
    assert [p.name for p in (tmp_path / "deep/er").iterdir()] == ["report.json"]
    assert make().to_bytes() == report.to_bytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"edgepack": 99},
            "written by a newer edgepack: report version 99, this one reads up to 3; update edgepack",
        ),
        ({"edgepack": 0}, "re-run the recipe"),
        ({"kind": "measurement"}, "not an edgepack report"),
        ({"exit_code": "0"}, "exit_code"),
        ({"seconds": None}, "seconds"),
    ],
)
def test_another_version_or_document_is_named_as_such(change, says, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(json.loads(samples.empty().to_bytes()) | change))
    with pytest.raises(InputError) as caught:
        Report.load(path)
    assert says in caught.value.render()
    assert str(path) in caught.value.render()


def test_a_missing_report_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        Report.load(tmp_path / "none.json")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_a_number_cannot_stand_in_a_report(value):
    with pytest.raises(ValidationError):
        Row(target="a", candidate="release", parity=value)


def test_rows_are_ordered_by_target_then_baseline_first():
    builder = samples.new_builder()
    for target, candidate in (("b", "release"), ("a", "release"), ("b", "baseline")):
        builder.add_row(target, candidate, parameters=1)
    builder.add_row("a", "release", macs=2)
    rows = builder.build().rows
    assert [(row.target, row.candidate) for row in rows] == [
        ("b", "baseline"),
        ("b", "release"),
        ("a", "release"),
    ]
    assert (rows[2].parameters, rows[2].macs) == (1, 2)


def test_a_reason_lasts_only_as_long_as_its_figure_is_missing():
    builder = samples.new_builder()
    builder.add_missing("a", "release", "no data", "score_board", "parity")
    builder.add_row("a", "release", parity=0.0, missing={"macs": "dynamic shapes"})
    assert builder.build().rows[0].missing == {"score_board": "no data", "macs": "dynamic shapes"}


@pytest.mark.parametrize(
    "call",
    [
        lambda builder: builder.add_row("a", "release", paramters=1),
        lambda builder: builder.add_missing("a", "release", "why", "paramters"),
    ],
)
def test_a_misspelt_figure_is_refused_at_once(call):
    builder = samples.new_builder()
    with pytest.raises(ValueError, match="a row has no field paramters"):
        call(builder)


def test_the_report_can_be_built_at_any_time():
    builder = samples.new_builder()
    assert builder.build().stages == ()
    builder.add_outcome(Outcome(stage="train", status="done", seconds=1.0))
    builder.add_outcome(Outcome(stage="export", status="cached"))
    assert [outcome.stage for outcome in builder.build().stages] == ["train", "export"]


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([], 0),
        ([(InputError("x"), None)], 2),
        ([(UnreachableError("x"), "a")], FleetError.exit_code),
        ([(UnreachableError("x"), "a"), (AgentError("x"), "b")], UnreachableError.exit_code),
        ([(UnreachableError("x"), "a"), (DeployError("x"), "b")], FleetError.exit_code),
        ([(UnreachableError("x"), "a"), (LockedError("x"), None)], LockedError.exit_code),
        ([(UnreachableError("x"), "a"), (Interrupted("x"), "b")], Interrupted.exit_code),
        ([(EdgepackError("x"), None)], 1),
    ],
)
def test_exit_codes_of_errors(errors, code):
    builder = samples.new_builder()
    for target in ("a", "b"):
        builder.add_row(target, "release", parameters=1)
    for error, target in errors:
        samples.failed(builder, error, target=target)
    assert builder.build().exit_code == code


LSTM = ModelProblem("LSTM", "lstm 1", "LSTM is not lowered", "the importer has none", "unroll it")
LOOP = ModelProblem("Loop", "", "Loop is not lowered", "it has no static length", "export without it")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UnsupportedError("m.onnx", [LSTM]), ["LSTM is not lowered", "lstm 1", "the importer has none"]),
        (
            UnsupportedError("m.onnx", [LSTM, LOOP]),
            [LSTM.message, "lstm 1", LOOP.message, LOOP.why, LOOP.next],
        ),
        (ConfigError([Problem("r.yaml", 1, 2, "no such key: x")]), ["r.yaml", "no such key: x"]),
    ],
    ids=["one problem in a model", "two problems in a model", "a problem in YAML"],
)
def test_the_report_has_all_details_of_an_error(error, words):
    builder = samples.new_builder()
    samples.failed(builder, error, target="a")
    report = builder.build()
    assert Report.model_validate_json(report.model_dump_json()) == report
    for page in (to_html(report), to_markdown(report)):
        assert [word for word in words if word not in page] == []


def test_a_single_target_that_fails_gives_its_own_code():
    builder = samples.new_builder()
    samples.failed(builder, UnreachableError("x"), target="a", stage="deploy")
    report = builder.build()
    assert (report.targets, report.exit_code) == (("a",), 4)
    assert (report.errors[0].type, report.errors[0].stage) == ("UnreachableError", "deploy")


def at(target) -> Placement:
    return Placement(target=target)


def row(**figures) -> Row:
    return Row(**({"target": "a", "candidate": "release"} | figures))


MEASURED = samples.measurement(1.0, device="b")


# The board ran a part of the test split: on it, onnxruntime is worse, or better, than on all of it.
PART = {"score_onnxruntime": 0.9, "score_same": 0.88}
EASY_PART = {"score_onnxruntime": 0.86, "score_same": 0.89}


@pytest.mark.parametrize(
    ("gates", "figures", "status"),
    [
        (Gates(parity=1e-4), {"parity": 1e-4}, "passed"),
        (Gates(parity=1e-4), {"parity": 1.001e-4}, "failed"),
        (Gates(bundle_kib=2), {"bundle_size": 2048}, "passed"),
        (Gates(bundle_kib=2), {"bundle_size": 2049}, "failed"),
        (Gates(weights_kib=2), {"weights_size": 2048}, "passed"),
        (Gates(weights_kib=2), {"weights_size": 2049}, "failed"),
        (Gates(weights_kib=2), {"missing": {"weights_size": "it was not built"}}, "skipped"),
        (Gates(weights_memory_kib=2), {"weights_memory": 2048}, "passed"),
        (Gates(weights_memory_kib=2), {"weights_memory": 2049}, "failed"),
        (Gates(weights_memory_ratio=0.5), {"weights_memory": 2}, "skipped"),
        (Gates(p90_ms=MEASURED.latency.p90), {"measurement": MEASURED}, "passed"),
        (Gates(p90_ms=0.5), {"measurement": MEASURED}, "failed"),
        (Gates(p90_ms=0.5), {"measurement": MEASURED, "emulated": True}, "skipped"),
        (Gates(peak_rss_mib=18), {"measurement": MEASURED}, "passed"),
        (Gates(peak_rss_mib=17.9), {"measurement": MEASURED}, "failed"),
        (Gates(peak_rss_mib=17.9), {"measurement": MEASURED, "emulated": True}, "skipped"),
        (Gates(accuracy_drop=0.01), {"score_torch": 0.9, "score_board": 0.895}, "passed"),
        (Gates(accuracy_drop=0.01), {"score_torch": 0.9, "score_board": 0.88}, "failed"),
        (Gates(accuracy_drop=0.01), {"score_board": 0.88}, "skipped"),
        (Gates(accuracy_drop=0.01), {"score_torch": 0.9, "score_board": 0.88, **PART}, "passed"),
        (Gates(accuracy_drop=0.01), {"score_torch": 0.9, "score_board": 0.86, **PART}, "failed"),
        (Gates(accuracy_drop=0.01), {"score_torch": 0.88, "score_board": 0.89, **EASY_PART}, "failed"),
        (Gates(accuracy_min=0.895), {"score_board": 0.88, **PART}, "passed"),
        (Gates(accuracy_min=0.895), {"score_board": 0.89, **EASY_PART}, "failed"),
        (Gates(accuracy_min=0.9), {"score_board": 0.9}, "passed"),
        (Gates(accuracy_min=0.9), {"score_board": 0.899}, "failed"),
        (Gates(accuracy_min=0.9), {"score_onnxruntime": 0.99}, "skipped"),
        (Gates(parity=1e-3), {"parity": 0.009, "rounding": 0.004}, "failed"),
        (Gates(parity=0.1), {"parity": 0.09, "rounding": 0.004}, "passed"),
        (Gates(parity=1e-3), {"measurement": MEASURED, "missing": {"parity": "NaN"}}, "failed"),
    ],
)
def test_gates(gates, figures, status):
    (found,) = check_gates(gates, [row(**figures)])
    assert found.status == status
    assert bool(found.why) == (status != "passed")


@pytest.mark.parametrize("name", ["weights_size", "weights_memory"])
def test_weights_are_compared_with_the_baselines_and_a_failed_gate_names_its_step(name):
    gate = {"weights_size": "weights_ratio", "weights_memory": "weights_memory_ratio"}[name]
    rows = [row(candidate="baseline", **{name: 400}), row(**{name: 101})]
    steps = [
        ModelRow(stage=stage, **{name: size}) for stage, size in (("source", 410), ("a", 200), ("b", 90))
    ]
    for limit, status in ((0.2525, "passed"), (0.25, "failed")):
        (found,) = check_gates(Gates(**{gate: limit}), rows, steps)
        assert (found.status, found.value) == (status, 0.2525)
    assert (found.step, found.why) == ("a", "0.2525 is above 0.25; a broke it")
    (first, second) = check_step_gates(Gates(each_step={gate: 0.3}), steps)
    assert (first.status, second.status) == ("failed", "passed")
    (unbuilt,) = check_gates(Gates(**{gate: 0.3}), rows[1:], steps)
    assert (unbuilt.status, unbuilt.why) == ("skipped", "the baseline was not built")
    (unknown,) = check_step_gates(Gates(each_step={gate: 0.3}), (steps[0], ModelRow(stage="c")))
    assert (unknown.status, unknown.why) == ("skipped", "the figure is not known after this step")


def test_parameters_other_than_zero_are_shown_if_some_are_zero():
    def labels(**figures):
        builder = samples.new_builder()
        builder.add_row("a", "release", parameters=100, **figures)
        return [figure.label for figure in figures_of(builder.build())]

    assert "Parameters other than zero" in labels(nonzeros=40)
    assert "Parameters other than zero" not in labels(nonzeros=100)
    assert "Parameters other than zero" not in labels()


def test_a_skipped_gate_repeats_why_its_figure_is_missing():
    (found,) = check_gates(Gates(parity=1e-4), [row(missing={"parity": "the outputs hold NaN"})])
    assert (found.status, found.why) == ("skipped", "the outputs hold NaN")


def test_a_limit_that_rounding_exceeds_is_raised_and_said():
    (found,) = check_gates(Gates(parity=1e-3), [row(parity=0.006, rounding=0.004)])
    assert (found.limit, found.value) == (0.008, 0.006)
    assert found.why == "the limit is the effect of rounding to int8 or float16, above the recipe's 0.001"


CHANCE = "no better than chance: always answering the most frequent class gives"


@pytest.mark.parametrize(
    ("figures", "warned"),
    [
        ({"score_board": 0.0, "chance": 0.1, "board_samples": 400}, True),
        ({"score_board": 0.1, "chance": 0.1, "board_samples": 400}, True),
        ({"score_board": 0.12, "chance": 0.1, "board_samples": 400}, True),
        ({"score_board": 0.2, "chance": 0.1, "board_samples": 400}, False),
        ({"score_board": 0.9, "chance": 0.9, "board_samples": 400}, True),
        ({"score_board": 1.0, "chance": 0.5, "board_samples": 2}, False),
        ({"score_onnxruntime": 0.1, "chance": 0.1}, True),
        ({"score_onnxruntime": 0.1, "score_board": 0.9, "chance": 0.1}, False),
        ({"score_board": 0.0}, False),
    ],
)
def test_an_accuracy_at_chance_is_warned_of_everywhere(figures, warned):
    builder = samples.new_builder()
    builder.add_row("a", "release", **figures)
    report = builder.build()
    assert any(CHANCE in warning for warning in report.rows[0].warnings) == warned
    for page in (to_html(report), to_markdown(report), "\n".join(plain_lines(report))):
        assert (CHANCE in page) == warned
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_the_baseline_is_the_reference_and_is_not_gated():
    rows = [row(candidate="baseline", score_onnxruntime=0.9), row(score_board=0.87)]
    (found,) = check_gates(Gates(accuracy_drop=0.01), rows)
    assert found.status == "failed"
    assert found.value == pytest.approx(0.03)
    assert check_gates(Gates(parity=1e-4), rows[:1]) == ()


def test_a_failed_gate_is_exit_code_3_and_a_skipped_one_is_not():
    builder = samples.new_builder()
    builder.add_row("a", "release", parity=1.0)
    builder.check_gates(Gates(parity=0.1))
    assert builder.build().exit_code == 3
    builder.check_gates(Gates(p90_ms=0.1))
    assert builder.build().exit_code == 0


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_gate_never_passes_a_value_above_its_limit(limit, value):
    found = check_gates(Gates(accuracy_drop=limit), [row(score_torch=1.0, score_board=1 - value)])
    assert (found[0].status == "failed") == (1.0 - (1 - value) > limit)


@pytest.mark.parametrize(
    ("error", "target", "says"),
    [
        (None, None, "1 target done"),
        (Interrupted("x"), "a", "interrupted"),
        (InputError("x"), None, "the run failed"),
        (UnreachableError("x"), "a", "1 of 1 target failed"),
    ],
)
def test_the_headline(error, target, says):
    builder = samples.new_builder()
    builder.add_row("a", "release", parameters=1)
    if error:
        samples.failed(builder, error, target=target)
    assert headline(builder.build()) == says


BUNDLE, P50 = (next(f for f in FIGURES if f.label == label) for label in ("Bundle", "Latency p50"))


def test_a_missing_figure_is_explained_by_what_failed_or_was_skipped():
    builder = samples.new_builder()
    builder.add_row("a", "release", parameters=1)
    assert cell(builder.build(), BUNDLE, at("a"), "release").why == "not measured"
    builder.add_outcome(
        Outcome(stage="bench", target="a", candidate="release", status="skipped", why="no device")
    )
    assert cell(builder.build(), P50, at("a"), "release").why == "no device"
    assert cell(builder.build(), BUNDLE, at("a"), "release").why == "not measured"
    builder.add_outcome(
        Outcome(stage="compile", target="a", candidate="baseline", status="failed", why="no zig")
    )
    assert cell(builder.build(), BUNDLE, at("a"), "release").why == "compile failed: no zig"
    builder.add_outcome(
        Outcome(stage="compile", target="a", candidate="release", status="failed", why="disk full")
    )
    assert cell(builder.build(), BUNDLE, at("a"), "release").why == "compile failed: disk full"
    assert cell(builder.build(), BUNDLE, at("b"), "release").why == "not measured"
    builder.add_missing("a", "release", "said already", "bundle_size")
    assert cell(builder.build(), BUNDLE, at("a"), "release").why == "said already"


def test_a_placement_says_its_device_and_whether_it_is_emulated():
    builder = samples.new_builder()
    builder.add_row("a", "baseline", device="d", emulated=True)
    builder.add_row("a", "release", device="d", emulated=True, parameters=1)
    samples.failed(builder, UnreachableError("x"), target="b")
    report = builder.build()
    assert [title(at) for at in report.placements] == ["a on d (emulated)", "b"]


def test_every_device_of_a_target_has_its_own_rows_gates_and_exit_code():
    builder = samples.new_builder()
    for device, parity in (("one", 0.01), ("two", 1.0)):
        for candidate in ("baseline", "release"):
            builder.add_row("a", candidate, device=device, parity=parity)
    builder.check_gates(Gates(parity=0.1))
    report = builder.build()
    assert [(gate.target, gate.device, gate.status) for gate in report.gates] == [
        ("a", "one", "passed"),
        ("a", "two", "failed"),
    ]
    assert report.exit_code == 3
    for page in (to_html(report), to_markdown(report)):
        assert page.count("on one") == page.count("on two") > 0
    samples.failed(builder, UnreachableError("x"), target="a", device="two")
    assert builder.build().exit_code == FleetError.exit_code
    samples.failed(builder, UnreachableError("x"), target="a", device="one")
    assert builder.build().exit_code == UnreachableError.exit_code


def test_candidates_of_a_search_stand_beside_each_other():
    builder = samples.new_builder()
    for candidate, size in (("small", 3), ("baseline", 9), ("tiny", 1)):
        builder.add_row("a", candidate, bundle_size=size)
    report = builder.build()
    assert columns(report) == ("baseline", "small", "tiny")
    assert [row.candidate for row in report.rows] == ["baseline", "small", "tiny"]
    assert "| Bundle | 9 B | 3 B | 1 B |" in to_markdown(report).replace("\N{NO-BREAK SPACE}", " ")
    for name in columns(report):
        assert name in to_html(report)


def test_an_error_of_the_whole_run_explains_every_target():
    builder = samples.new_builder()
    builder.add_row("a", "release", parameters=1)
    samples.failed(builder, InputError("no such weights"))
    assert cell(builder.build(), BUNDLE, at("a"), "release").why == "no such weights"


def test_host_and_tools_are_of_this_machine():
    assert this_host().cores >= 1
    assert tool_versions()["apache-tvm"] == "0.27.0.post1"
