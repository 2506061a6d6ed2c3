"""Descriptions of tuning results and of each kernel's outcome."""

import pytest
from samples import good

from edgepack.pipeline.stages.tune import TunedKernel
from edgepack.reporting.document import TuningRow
from edgepack.reporting.html import to_html
from edgepack.reporting.markdown import to_markdown
from edgepack.reporting.terminal import plain_lines
from edgepack.reporting.tuning import kernel_outcome, tuning_outcome

_UNTUNED = TunedKernel(name="k", tuned=False, best_ms=0.06, untuned_ms=0.05, noise=0.01, trials=4)
_TUNED = _UNTUNED.model_copy(update={"tuned": True, "best_ms": 0.04})


def row(**fields):
    known = {"target": "rpi4", "candidate": "release", "trials": 1200, "seconds": 90.0}
    return TuningRow.model_validate(known | fields)


def plain(text):
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_a_gain_is_reported_with_its_noise():
    found = row(
        kernels=(_TUNED, _UNTUNED), untuned_ms=0.1, predicted_ms=0.09, noise_ms=0.001, stopped="trials"
    )
    assert plain(tuning_outcome(found)) == (
        "0.100 ms -> 0.0900 ms predicted (noise 0.00100 ms); 1 of 2 kernels tuned; "
        "1,200 trials in 1 min 30 s; all trials used"
    )


def test_no_gain_is_reported():
    found = row(
        kernels=(_UNTUNED,),
        untuned_ms=0.05,
        predicted_ms=0.05,
        noise_ms=0.001,
        stopped="settled",
        emulated=True,
    )
    assert plain(tuning_outcome(found)) == (
        "no gain: 0.0500 ms predicted (noise 0.00100 ms); 0 of 1 kernels tuned; 1,200 trials in 1 min 30 s; "
        "stopped early: no kernel improved any more; emulated: these times are meaningless"
    )


def test_a_budget_that_ended_before_the_first_trial_is_not_called_without_gain():
    found = row(kernels=(_UNTUNED,), untuned_ms=0.05, predicted_ms=0.05, stopped="minutes", trials=0)
    assert plain(tuning_outcome(found)).startswith(
        "nothing tried: 0.0500 ms predicted; 0 of 1 kernels tuned; 0 trials"
    )


def test_older_reports_without_gains_are_described():
    found = row(curve=({"seconds": 1.0, "trials": 1, "predicted_ms": 0.5},))
    assert plain(tuning_outcome(found)).startswith("0.500 ms predicted; 0 of 0 kernels tuned")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tuned": True}, "tuned"),
        ({}, "untuned: no candidate beat the fallback by more than the noise"),
        (
            {"ended": "settled"},
            "untuned: no candidate beat the fallback by more than the noise, and its search was stopped",
        ),
        ({"best_ms": None}, "untuned: no candidate ran"),
        ({"trials": 0, "ended": "small"}, "untuned: its share of the runtime is too small to search"),
        ({"trials": 0, "ended": "budget"}, "untuned: the budget ran out before it was searched"),
        ({"trials": 0, "ended": "exhausted"}, "untuned: there are no other schedules to try"),
        ({"trials": 0}, "untuned"),
    ],
)
def test_each_kernel_has_a_reason(changes, words):
    assert kernel_outcome(_UNTUNED.model_copy(update=changes)) == words


def test_every_format_of_a_report_has_it():
    report = good()
    words = tuning_outcome(report.tuning[0])
    assert any(words in line for line in plain_lines(report))
    assert words.split(";")[1] in to_markdown(report)
    assert words.split(";")[1] in to_html(report)
