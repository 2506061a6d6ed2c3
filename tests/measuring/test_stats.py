import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.measuring.stats import BoardState, judge, modes_gap, percentile, summary

samples = st.lists(st.integers(1, 10**12), min_size=1, max_size=200)
QUIET = BoardState(governor="performance", frequency_khz=(1_500_000, 1_500_000), throttled=False)


def steady(count: int = 100, centre: float = 1e6, spread: float = 0.01) -> list[int]:
    dice = random.Random(7)
    return [int(centre * (1 + dice.gauss(0, spread))) for _ in range(count)]


def reasons(values: list[int], before: BoardState = QUIET, after: BoardState = QUIET, **options) -> str:
    verdict = judge(values, before=before, after=after, **options)
    assert verdict.valid == (not verdict.reasons)
    return "; ".join(verdict.reasons)


@given(samples, st.floats(0, 100))
def test_percentiles_are_numpys(values, q):
    assert percentile(values, q) == pytest.approx(np.percentile(values, q), rel=1e-12)


@given(samples)
def test_the_summary_is_ordered_and_within_the_samples(values):
    found = summary(values)
    assert found.min <= found.p50 <= found.p90 <= found.p99 <= found.max
    assert (found.min, found.max) == (min(values) / 1e6, max(values) / 1e6)
    assert found.min <= found.mean * (1 + 1e-12)
    assert found.mean <= found.max * (1 + 1e-12)
    assert found.iqr == pytest.approx(
        (percentile(values, 75) - percentile(values, 25)) / 1e6, rel=1e-9, abs=1e-9
    )


@given(samples, st.randoms())
def test_the_summary_does_not_depend_on_the_order(values, dice):
    shuffled = values.copy()
    dice.shuffle(shuffled)
    assert summary(shuffled) == summary(values)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=100), st.integers(2, 1000))
def test_a_clock_k_times_slower_gives_figures_k_times_larger(values, factor):
    plain, scaled = summary(values), summary([value * factor for value in values])
    for name in ("p50", "p90", "p99", "mean", "iqr"):
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name) * factor, rel=1e-6, abs=1e-6)


def test_known_percentiles():
    assert percentile([4, 1, 3, 2], 50) == 2.5
    assert percentile(range(1, 101), 99) == pytest.approx(99.01)
    assert percentile([5], 90) == 5


@pytest.mark.parametrize(("values", "q"), [([], 50), ([1], -1), ([1], 100.5), ([1], math.nan)])
def test_a_percentile_of_nothing_is_refused(values, q):
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, q)


def test_no_samples_have_no_summary():
    with pytest.raises(ValueError, match="no samples"):
        summary([])


def test_a_steady_run_is_valid():
    assert reasons(steady()) == ""


def test_a_single_outlier_does_not_spoil_a_run():
    assert reasons([*steady(99), 9_000_000]) == ""


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([0] * 60 + [1] * 40, "clock is too coarse"),
        (steady(29), "too few samples: need at least 30 (got 29)"),
        (steady(50) + steady(50, centre=1.2e6), "drift: the second half's median is +"),
        ([int(value * 1.2 ** (i % 2)) for i, value in enumerate(steady(100))], "bimodal: two groups"),
        ([*steady(97), 5_000_000, 6_000_000, 9_000_000], "tail: p99 is 6.0 times the median"),
        (steady(100, spread=0.15), "spread: the interquartile range is"),
    ],
)
def test_what_is_wrong_with_the_samples_is_named(values, says):
    assert says in reasons(values)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"throttled": True}, "throttled"),
        ({"frequency_khz": (1_500_000, 600_000)}, "frequency changed by -60%"),
        ({"governor": "powersave"}, "governor changed from performance to powersave"),
    ],
)
def test_what_is_wrong_with_the_board_is_named(change, says):
    assert says in reasons(steady(), after=QUIET.model_copy(update=change))


def test_a_small_change_of_frequency_is_noise():
    assert reasons(steady(), after=QUIET.model_copy(update={"frequency_khz": (1_510_000, 1_500_000)})) == ""


def test_an_unknown_board_state_does_not_invalidate_a_measurement():
    assert reasons(steady(), BoardState(), BoardState()) == ""


def test_emulated_latency_is_never_valid():
    assert reasons(steady(), emulated=True).startswith("emulated")


@given(st.lists(st.integers(10**5, 10**6), min_size=30, max_size=100), st.integers(2, 50))
def test_two_groups_far_apart_are_two_groups(values, times):
    """Any cluster and a copy of it at more than its width."""
    width = max(values) - min(values)
    far = [value + 4 * width + times * 10**6 for value in values]
    assert modes_gap(values + far) == pytest.approx(min(far) - max(values))


@given(st.integers(30, 300), st.integers(0, 10))
def test_one_even_group_is_one_group(count, seed):
    dice = random.Random(seed)
    assert modes_gap([dice.uniform(1e6, 2e6) for _ in range(count)]) is None
    assert modes_gap([1_000_000] * count) is None
