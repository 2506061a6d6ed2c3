"""Metrics against their definitions, for outputs and targets of every kind of task."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.errors import InputError
from edgepack.scoring import Scorer, chance, merge_batches
from edgepack.scoring.intervals import wilson
from edgepack.spec import Metric

RNG = np.random.default_rng(0)


def scorer(name, **more):
    return Scorer(Metric(name=name, **more))


def test_accuracy_is_the_share_of_right_answers():
    scores = np.array([[1, 2], [2, 1], [0, 1], [5, 0]], "float32")
    found = Scorer().score([scores], np.array([1, 0, 0, 0]))
    assert (found.metric, found.value, found.samples, found.higher_is_better) == ("accuracy", 0.75, 4, True)
    with pytest.raises(InputError, match="label 2 has no output: the model has 2 classes"):
        Scorer().value([scores], np.array([0, 1, 2, 0]))
    with pytest.raises(InputError, match=r"the output is \[4, 2\] for 3 targets"):
        Scorer().value([scores], np.array([0, 1, 1]))


def test_a_nan_is_a_wrong_answer_and_an_infinity_is_one():
    scores = np.array([[np.nan, 0], [-np.inf, 0], [np.inf, 0]], "float32")
    assert Scorer().value([scores], np.array([0, 1, 0])) == pytest.approx(2 / 3)


def test_masks_and_tokens_have_their_classes_on_axis_1_or_last_and_some_targets_do_not_count():
    masks = RNG.integers(0, 3, (5, 4, 6))
    scores = np.moveaxis(np.eye(3)[masks], -1, 1)
    wrong = masks.copy()
    wrong[0, 0, :3] = (wrong[0, 0, :3] + 1) % 3
    assert scorer("accuracy").value([scores], wrong) == pytest.approx(1 - 3 / 120)
    assert scorer("accuracy").value([np.eye(3)[masks]], wrong) == pytest.approx(1 - 3 / 120)
    wrong[0, 0, :3] = -100
    assert scorer("accuracy").value([scores], wrong) == 1
    assert scorer("miou").value([scores], wrong) == 1


def test_one_number_a_target_is_the_logit_of_class_1():
    logits, masks = np.array([[[[-1.0, 2.0]]], [[[3.0, -4.0]]]]), np.array([[[[0, 1]]], [[[0, 0]]]])
    assert scorer("accuracy").value([logits], masks) == 0.75
    assert scorer("accuracy").value([logits], masks[:, 0]) == 0.75
    assert scorer("accuracy").value([logits[:, 0, 0, 0]], masks[:, 0, 0, 0]) == 0.5


def test_top5_and_macro_f1_and_miou_by_their_definitions():
    scores, y = RNG.random((60, 8)), RNG.integers(0, 8, 60)
    order = np.argsort(-scores, axis=1)[:, :5]
    assert scorer("top5").value([scores], y) == np.mean(
        [label in row for label, row in zip(y, order, strict=True)]
    )
    said = scores.argmax(axis=1)
    f1, iou = [], []
    for label in set(y) | set(said):
        tp = ((said == label) & (y == label)).sum()
        off = ((said == label) ^ (y == label)).sum()
        f1.append(2 * tp / (2 * tp + off))
        iou.append(tp / (tp + off))
    assert scorer("f1").value([scores], y) == pytest.approx(np.mean(f1))
    assert scorer("miou").value([scores], y) == pytest.approx(np.mean(iou))


def test_errors_of_numbers_and_the_default_for_them():
    y = RNG.standard_normal((9, 1, 3)).astype("float32")
    found = Scorer().score([y[:, 0] + 0.5], y)
    assert (found.metric, found.higher_is_better) == ("mse", False)
    assert found.value == pytest.approx(0.25, rel=1e-5)
    assert scorer("mae").value([y - 0.5], y) == pytest.approx(0.5, rel=1e-5)
    assert found.drop_to(found.value + 1) == pytest.approx(1)
    with pytest.raises(InputError, match=r"an output of a sample is \[10\], its target \[\]"):
        Scorer().value([np.zeros((9, 10))], np.zeros(9, "float32"))


def test_against_the_source_model():
    source = (RNG.standard_normal((50, 4)), RNG.standard_normal((50, 2, 3)))
    targets = {"0": source[0], "1": source[1]}
    noisy = [each + 0.01 * RNG.standard_normal(each.shape) for each in source]
    assert scorer("sqnr").value(noisy, targets) == pytest.approx(40, abs=1.5)
    assert scorer("sqnr").value(source, targets) == 150
    assert scorer("agreement").value(source, targets) == 1
    assert scorer("agreement").value([-source[0], source[1]], targets) == 0.5


def test_several_targets_are_the_mean_over_theirs():
    right, wrong = np.eye(2)[[0, 1]], np.eye(2)[[1, 0]]
    targets = {"a": np.array([0, 1]), "b": np.array([0, 1])}
    assert Scorer().value([right, wrong, right], targets) == 0.5
    with pytest.raises(InputError, match="1 outputs for 2 targets"):
        Scorer().value([right], targets)


def test_numbers_that_are_no_numbers_are_an_error():
    with pytest.raises(InputError, match="the metric mse is nan"):
        Scorer().value([np.full((3, 1), np.nan)], np.zeros(3, "float32"))


def test_targets_are_checked_before_training():
    with pytest.raises(InputError, match="label 3 has no output"):
        Scorer().check([np.zeros((2, 3))], np.array([0, 1, 2, 3]))
    with pytest.raises(InputError, match="needs class numbers"):
        scorer("f1").check([np.zeros((2, 3))], np.zeros((4, 3), "float32"))


OWN = """\
import numpy as np

def closeness(outputs, targets):
    return -np.abs(outputs - targets).mean()

def each(outputs, targets):
    return -np.abs(outputs[0] - targets["a"]).mean(axis=1)

def wrong(outputs, targets):
    return "good"

def fails(outputs, targets):
    return outputs["x"]
"""


def test_a_metric_of_ones_own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    y = RNG.standard_normal((40, 2))

    def own(name):
        return Scorer(Metric(name=f"own:{name}", higher_is_better=True), tmp_path)

    found = own("closeness").score([y + 1], y)
    assert (found.metric, found.value) == ("closeness", pytest.approx(-1))
    noisy = y + RNG.standard_normal(y.shape)
    found, both = own("closeness").score([noisy], y), own("each").score([noisy, y], {"a": y})
    assert found.value == pytest.approx(both.value)
    assert (found.low, found.high) == pytest.approx((both.low, both.high), rel=0.15)
    with pytest.raises(InputError, match="own:wrong returned good"):
        own("wrong").value([y], y)
    with pytest.raises(InputError, match="own:fails failed") as caught:
        own("fails").value([y], y)
    assert caught.value.where.endswith("own.py:13")


def test_wilsons_interval_is_the_published_one():
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 400), st.floats(0, 1), st.integers(0, 9))
def test_an_interval_holds_its_value_and_is_always_the_same(count, share, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, count)
    scores = np.eye(2)[np.where(rng.random(count) < share, y, 1 - y)]
    found = Scorer().score([scores], y)
    assert 0 <= found.low <= found.value <= found.high <= 1
    masks = scorer("accuracy").score(
        [np.repeat(scores[:, :, None], 3, axis=2)], np.repeat(y[:, None], 3, axis=1)
    )
    if count == 1:
        assert masks.low is None
    else:
        assert masks.low - 1e-9 <= masks.value <= masks.high + 1e-9
        assert masks == scorer("accuracy").score(
            [np.repeat(scores[:, :, None], 3, axis=2)], np.repeat(y[:, None], 3, axis=1)
        )


def test_many_samples_are_drawn_in_groups_with_the_same_spread():
    y = RNG.standard_normal((5000, 1)).astype("float32")
    found = Scorer().score([np.zeros_like(y)], y)
    half = 1.96 * float((y**2).std()) / np.sqrt(5000)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.15)


def test_chance_is_of_classes_only():
    assert chance(np.array([0, 1, 1, 1])) == 0.75
    assert chance(np.array([[0, -100], [1, 1]])) == pytest.approx(2 / 3)
    assert chance({"a": np.array([0, 0]), "b": np.array([0, 1])}) == 0.75
    assert chance(np.zeros(3)) is None


def test_batches_are_merged_where_the_first_axis_is_the_batch():
    assert merge_batches(np.zeros((5, 2, 3)), 2).shape == (10, 3)
    assert merge_batches(np.zeros((5, 7, 3)), 2).shape == (5, 7, 3)
    assert merge_batches(np.zeros(5), 2).shape == (5,)


def test_the_mean_over_corruptions_has_the_interval_of_other_samples():
    """Every sample is right under all corruptions or under none: more corruptions do not make the mean more certain."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 100)
    outputs = [np.eye(3, dtype="float32")[np.where(np.arange(100) < 80, targets, (targets + 1) % 3)]]
    scorer = Scorer()
    once = scorer.score(outputs, targets)
    many = scorer.mean([scorer.tally(outputs, targets)] * 12, targets)
    assert many.value == pytest.approx(0.8)
    assert many.samples == 100
    width = once.high - once.low
    assert 0.8 * width < many.high - many.low < 1.2 * width
    halves = [
        np.eye(3, dtype="float32")[np.where(rng.random(100) < 0.8, targets, (targets + 1) % 3)]
        for _ in range(12)
    ]
    independent = scorer.mean([scorer.tally([each], targets) for each in halves], targets)
    assert independent.high - independent.low < 0.6 * width
    assert independent.low < independent.value < independent.high
    assert scorer.mean([scorer.tally(outputs, targets)], targets) == once
