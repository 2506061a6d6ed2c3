"""From trials to curves, from pieces of work to busy seconds. Nothing here measures."""

import statistics
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.tuning.log import TunerTrial


@dataclass(frozen=True)
class Point:
    """From here on, until the next point, this is the predicted total."""

    seconds: float
    trials: int  # tried so far, failed ones included
    predicted_ms: float


@dataclass(frozen=True)
class Band:
    """Several curves at one place of the axis."""

    x: float
    low: float
    median: float
    high: float


def curve(
    trials: Iterable[TunerTrial], weights: Mapping[str, int], untuned_ms: Mapping[str, float]
) -> list[Point]:
    """The predicted total after each trial: over the net's kernels, calls x the best so far.

    A kernel starts with its untuned time, under its fallback schedule, and is never taken for slower than that.
    Trials, in any order, of other kernels than the net's count and change nothing. ``weights`` are calls an inference
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
    """The predicted total at a place of the axis: that of the last point not beyond it."""
    return points[max(0, bisect_right(points, x, key=lambda point: getattr(point, axis)) - 1)].predicted_ms


def band(curves: Sequence[Sequence[Point]], axis: str, end: float, places: int = 200) -> list[Band]:
    """Least, median and most of several curves, at evenly spaced places from 0 to ``end``."""
    result = []
    for x in (end * place / places for place in range(places + 1)):
        values = [at(points, axis, x) for points in curves]
        result.append(Band(x, min(values), statistics.median(values), max(values)))
    return result


def busy(pieces: Iterable[tuple[float, float]]) -> float:
    """Seconds in which at least one of the pieces was at work."""
    total, until = 0.0, float("-inf")
    for began, ended in sorted(pieces):
        total += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return total


def rates(trials: Iterable[TunerTrial], seconds: float, bucket_s: float = 60.0) -> list[float]:
    """Trials a minute in each bucket of time; the last one may be shorter, and is scaled to its length."""
    count = max(1, -int(-seconds // bucket_s))
    found = [0] * count
    for trial in trials:
        found[min(count - 1, int(trial.seconds // bucket_s))] += 1
    lengths = [bucket_s] * (count - 1) + [seconds - bucket_s * (count - 1)]
    return [60 * n / length if length > 0 else 0.0 for n, length in zip(found, lengths, strict=True)]
