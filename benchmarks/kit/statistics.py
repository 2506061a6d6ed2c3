"""Median, p90, quartiles, and the confidence interval of a ratio of medians. Pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
LEAST_ROUNDS = 3  # with fewer, resampling gives no meaningful interval

Rounds = Mapping[int, Sequence[int]]  # round: its samples


@dataclass(frozen=True)
class Summary:
    """Summary of all samples of a contestant, in nanoseconds."""

    median: float
    p90: float
    p25: float
    p75: float

    @property
    def iqr(self) -> float:
        """Interquartile range."""
        return self.p75 - self.p25


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians and its 95 % interval, which is None if there are too few rounds."""

    value: float
    low: float | None
    high: float | None
    rounds: int

    @property
    def decided(self) -> bool:
        """Whether the interval does not contain 1."""
        return self.low is not None and self.high is not None and not self.low <= 1 <= self.high


def summarise(samples: Sequence[int]) -> Summary:
    """Return percentiles by linear interpolation (definition 7 of Hyndman and Fan, 1996).

    Raises:
        ValueError: No samples.
    """
    if not samples:
        raise ValueError("no samples to summarise")
    p25, p50, p75, p90 = np.percentile(np.asarray(samples, np.float64), (25, 50, 75, 90))
    return Summary(float(p50), float(p90), float(p25), float(p75))


def ratio(a: Rounds, b: Rounds, *, seed: int = 0, resamples: int = RESAMPLES) -> Ratio:
    """Return the median of ``a`` over the median of ``b``, over the rounds that both have.

    The interval is the percentile interval of a paired block bootstrap: whole rounds are drawn with
    replacement, and both sides take their samples from the same rounds. This preserves that a slow period
    affects both sides of its rounds, and that samples of one block are not independent.
    (Künsch, "The jackknife and the bootstrap for general stationary observations", Annals of Statistics 17,
    1989; Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, for the percentile interval.)

    Raises:
        ValueError: No round in common.
    """
    common = sorted(key for key in set(a) & set(b) if len(a[key]) and len(b[key]))
    if not common:
        raise ValueError("no round in common")
    count = len(common)
    draws = np.random.default_rng(seed).integers(count, size=(resamples, count))
    times = np.stack([np.ones(count, np.int64), *(np.bincount(draw, minlength=count) for draw in draws)])
    sides = ([side[key] for key in common] for side in (a, b))
    value, *drawn = np.divide(*(_medians(side, times) for side in sides))
    if count < LEAST_ROUNDS:
        return Ratio(float(value), None, None, count)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(drawn, (tail, 100 - tail))
    return Ratio(float(value), float(low), float(high), count)


def median_and_range(values: Sequence[float | None], form: str) -> str:
    """Format e.g. ``2.0 (1.0 to 3.0)`` for the available values, each in the format ``form``."""
    known = [value for value in values if value is not None]
    if not known:
        return "none"
    middle = form.format(median(known))
    lacking = f", {len(values) - len(known)} without" if len(known) < len(values) else ""
    if len(values) == 1:
        return middle
    return f"{middle} ({form.format(min(known))} to {form.format(max(known))}{lacking})"


def _medians(rounds: Sequence[Sequence[int]], times: np.ndarray) -> np.ndarray:
    """Return the median of all samples for each row of ``times`` ``[resamples, rounds]``: the count of each round."""
    samples = np.concatenate([np.asarray(one, np.float64) for one in rounds])
    order = np.argsort(samples, kind="stable")
    samples, of_round = samples[order], np.repeat(np.arange(len(rounds)), list(map(len, rounds)))[order]
    medians = np.empty(len(times))
    for index, row in enumerate(times):
        drawn = np.repeat(samples, row[of_round])  # sorted, as the samples are
        medians[index] = (drawn[(len(drawn) - 1) // 2] + drawn[len(drawn) // 2]) / 2
    return medians
