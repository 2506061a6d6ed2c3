import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepack.errors import InputError
from edgepack.measuring.accuracy import judge, parity, worst_parity
from edgepack.scoring import Scorer
from edgepack.spec import Metric

finite = st.floats(-1e6, 1e6, width=32)
arrays = hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=5), elements=finite)


@given(arrays)
def test_parity_with_itself_is_zero(values):
    assert parity(values, values) == 0


@given(arrays, st.floats(1e-3, 10))
def test_parity_is_relative_to_the_largest_reference_value(values, off):
    reference = values.astype(np.float64)
    ours = reference.copy()
    ours.flat[0] += off
    largest = np.abs(reference).max()
    assert parity(ours, reference) == pytest.approx(off / (largest or 1), rel=1e-4)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_parity_of_what_is_not_a_number_does_not_exist(broken):
    good, bad = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
    bad[1, 1] = broken
    assert parity(bad, good) is None
    assert parity(good, bad) is None
    assert worst_parity([good, bad], [good, good]) is None


def test_the_worst_output_counts():
    one = np.ones((1, 4), np.float32)
    assert worst_parity([one, one * 1.5], [one, one]) == 0.5
    with pytest.raises(InputError):
        worst_parity([one], [one, one])


def test_integers_do_not_wrap_around():
    assert parity(np.array([-128], np.int8), np.array([127], np.int8)) == pytest.approx(255 / 127)
    assert parity(np.array([0], np.uint8), np.array([1], np.uint8)) == 1


def judged(outputs, **more):
    return judge([outputs], batch=1, scorer=Scorer(), **more)


def test_the_metric_and_parity_of_all_samples():
    outputs = np.eye(4, dtype=np.float32)
    found = judged(outputs, targets=np.array([0, 1, 2, 0]), reference=[outputs[:, ::-1]])
    assert (found.samples, found.score.metric, found.score.value, found.parity) == (4, "accuracy", 0.75, 1.0)
    assert found.reference_score.value == 0.25


def test_a_nan_is_a_wrong_answer_and_is_reported():
    outputs = np.eye(2, dtype=np.float32)
    outputs[0, 0] = np.nan
    found = judged(outputs, targets=np.array([0, 1]), reference=[np.eye(2, dtype=np.float32)])
    assert (found.score.value, found.parity) == (0.5, None)
    assert "NaN" in str(found.why)


def test_an_error_of_numbers_that_are_none_is_missing_with_the_reason():
    found = judged(np.array([[np.nan], [1.0]]), targets=np.ones(2, np.float32))
    assert (found.score, found.reference_score) == (None, None)
    assert found.why == "the metric mse is nan"


def test_a_reference_of_numbers_that_are_none_has_no_score():
    targets, nan = np.ones(2, np.float32), np.full((2, 1), np.nan, np.float32)
    found = judged(np.ones((2, 1), np.float32), targets=targets, reference=[nan])
    assert (found.score.value, found.reference_score, found.parity) == (0, None, None)


def test_an_infinite_score_is_still_an_answer():
    outputs = np.array([[-np.inf, 0.0], [np.inf, 0.0]], np.float32)
    found = judged(outputs, targets=np.array([1, 0]), reference=[np.zeros((2, 2), np.float32)])
    assert (found.score.value, found.parity) == (1.0, None)


def test_batches_and_several_outputs():
    outputs = np.eye(6, dtype=np.float32).reshape(3, 2, 6)
    targets = {"first": np.arange(6), "second": np.zeros((6, 1), np.float32)}
    scorer = Scorer(Metric(name="mae"))
    found = judge(
        [outputs, np.ones((3, 2, 1))],
        batch=2,
        scorer=scorer,
        targets={"a": outputs.reshape(6, 6), "b": targets["second"]},
    )
    assert found.score.value == 0.5
    assert judge([outputs], batch=2, scorer=Scorer(), targets=targets["first"]).score.value == 1


def test_without_targets_there_is_no_score():
    found = judged(np.eye(3), reference=[np.eye(3)])
    assert (found.score, found.parity) == (None, 0.0)


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (np.zeros((0, 3)), None),
        (np.zeros((2, 3)), np.zeros(3, int)),
        (np.zeros((2, 3)), np.zeros((2, 2), int)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(outputs, targets):
    with pytest.raises(InputError):
        judged(outputs, targets=targets)
