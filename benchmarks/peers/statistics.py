"""Median, p90, quartiles, and the interval of a ratio of medians. Pure functions over nanoseconds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
LEAST_ROUNDS = 3  # below, resampling says nothing about the spread

Rounds = Mapping[int, Sequence[int]]  # round: its samples


@dataclass(frozen=True)
class Summary:
    """Of all samples of a contestant, in nanoseconds."""

    median: float
    p90: float
    p25: float
    p75: float

    @property
    def iqr(self) -> float:
        """The distance between the quartiles."""
        return self.p75 - self.p25


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians and its 95 % interval; None where there are too few rounds for one."""

    value: float
    low: float | None
    high: float | None
    rounds: int

    @property
    def decided(self) -> bool:
        """The interval lies on one side of 1."""
        return self.low is not None and self.high is not None and not self.low <= 1 <= self.high


def summarise(samples: Sequence[int]) -> Summary:
    """Percentiles by linear interpolation (definition 7 of Hyndman and Fan, 1996).

    Raises:
        ValueError: No samples.
    """
    if not samples:
        raise ValueError("no samples to summarise")
    p25, median, p75, p90 = np.percentile(np.asarray(samples, np.float64), (25, 50, 75, 90))
    return Summary(float(median), float(p90), float(p25), float(p75))


def ratio(a: Rounds, b: Rounds, *, seed: int = 0, resamples: int = RESAMPLES) -> Ratio:
    """The median of ``a`` over the median of ``b``, over the rounds that both have.

    The interval is the percentile interval of a paired block bootstrap: whole rounds are drawn with
    replacement, and both sides take their samples from the same rounds. What slows a stretch of time down
    slows both sides of its rounds, and samples of one block are not independent; both stay as they are.
    (Künsch, "The jackknife and the bootstrap for general stationary observations", Annals of Statistics 17,
    1989; Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, for the percentile interval.)

    Raises:
        ValueError: No round in common.
    """
    common = sorted(key for key in set(a) & set(b) if len(a[key]) and len(b[key]))
    if not common:
        raise ValueError("no round in common")
    sides = [[np.asarray(side[key], np.float64) for key in common] for side in (a, b)]
    value = _of_medians(sides, range(len(common)))
    if len(common) < LEAST_ROUNDS:
        return Ratio(value, None, None, len(common))
    draws = np.random.default_rng(seed).integers(len(common), size=(resamples, len(common)))
    drawn = [_of_medians(sides, draw) for draw in draws]
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(drawn, (tail, 100 - tail))
    return Ratio(value, float(low), float(high), len(common))


def _of_medians(sides: Sequence[Sequence[np.ndarray]], rounds: Sequence[int] | np.ndarray) -> float:
    a, b = (np.median(np.concatenate([side[index] for index in rounds])) for side in sides)
    return float(a / b)
