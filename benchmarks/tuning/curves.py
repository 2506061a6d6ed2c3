"""Compute curves from trials, and busy seconds from intervals. Nothing here measures."""

import statistics
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.tuning.log import TunerTrial


@dataclass(frozen=True)
class Point:
    """The predicted total from here to the next point."""

    seconds: float
    trials: int  # so far, including failed ones
    predicted_ms: float


@dataclass(frozen=True)
class Band:
    """Several curves at one position of the axis."""

    x: float
    low: float
    median: float
    high: float


def curve(
    trials: Iterable[TunerTrial], weights: Mapping[str, int], untuned_ms: Mapping[str, float]
) -> list[Point]:
    """Return the predicted total after each trial: the sum over the net's kernels of calls x the best time so far.

    A kernel starts with its untuned time, with its fallback schedule, which is also its upper bound.
    Trials may be in any order; those of kernels outside the net change nothing. ``weights`` are calls per inference
    of each kernel, by workload.
    """
    best = {workload: untuned_ms[workload] for workload in weights}

    def total() -> float:
        return sum(weight * best[workload] for workload, weight in weights.items())

    points = [Point(0.0, 0, total())]
    for count, trial in enumerate(sorted(trials, key=lambda trial: trial.seconds), start=1):
        if trial.ms is not None and trial.workload in best:
            best[trial.workload] = min(best[trial.workload], trial.ms)
        points.append(Point(trial.seconds, count, total()))
    return points


def at(points: Sequence[Point], axis: str, x: float) -> float:
    """Return the predicted total at a position of the axis: that of the last point up to it."""
    return points[max(0, bisect_right(points, x, key=lambda point: getattr(point, axis)) - 1)].predicted_ms


def band(curves: Sequence[Sequence[Point]], axis: str, end: float, places: int = 200) -> list[Band]:
    """Return minimum, median and maximum of several curves, at evenly spaced positions from 0 to ``end``."""
    result = []
    for x in (end * place / places for place in range(places + 1)):
        values = [at(points, axis, x) for points in curves]
        result.append(Band(x, min(values), statistics.median(values), max(values)))
    return result


def busy(pieces: Iterable[tuple[float, float]]) -> float:
    """Return the seconds covered by at least one of the intervals."""
    total, until = 0.0, float("-inf")
    for began, ended in sorted(pieces):
        total += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return total


def rates(trials: Iterable[TunerTrial], seconds: float, bucket_s: float = 60.0) -> list[float]:
    """Return trials per minute in each bucket of time; the last one may be shorter, and is scaled to its length."""
    count = max(1, -int(-seconds // bucket_s))
    counts = [0] * count
    for trial in trials:
        counts[min(count - 1, int(trial.seconds // bucket_s))] += 1
    lengths = [bucket_s] * (count - 1) + [seconds - bucket_s * (count - 1)]
    return [60 * n / length if length > 0 else 0.0 for n, length in zip(counts, lengths, strict=True)]
