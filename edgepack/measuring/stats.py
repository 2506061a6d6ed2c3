"""Statistics and validity of latency samples. Pure functions over samples in ns."""

import math
from collections.abc import Sequence
from itertools import pairwise

from pydantic import Field

from edgepack.spec import Finite, Spec

MIN_SAMPLES = 30
MAX_DRIFT = 0.05  # difference of the medians of the two halves, relative to the median
MAX_SPREAD = 0.10  # interquartile range, relative to the median
MAX_TAIL = 3.0  # p99 over the median
MAX_FREQUENCY_CHANGE = 0.02  # relative to the frequency before
MODE_SHARE = 0.10  # fraction of the samples on the smaller side of a gap
MODE_GAP = 3.0  # relative to the larger interquartile range of the two sides
MODE_STEP = 0.02  # of the median

NS_PER_MS = 1e6


class Latency(Spec):
    """A summary of samples; all figures in milliseconds."""

    p50: Finite
    p90: Finite
    p99: Finite
    mean: Finite
    min: Finite
    max: Finite
    iqr: Finite = Field(description="p75 - p25.")


class BoardState(Spec):
    """The state of the board at one moment; None if it is not known."""

    governor: str | None = Field(default=None, description="cpufreq's scaling governor.")
    frequency_khz: tuple[int, ...] = Field(
        default=(), description="scaling_cur_freq of cpufreq, for each core."
    )
    temperature_c: Finite | None = Field(default=None, description="Temperature of the hottest thermal zone.")
    throttled: bool | None = Field(
        default=None, description="Whether the CPU is throttled, or was throttled while samples were taken."
    )
    load_1min: Finite | None = Field(default=None, description="Load average over the last minute.")
    memory_available_kib: int | None = None


class Verdict(Spec):
    """Whether a measurement is valid, and the reasons if it is not."""

    valid: bool
    reasons: tuple[str, ...] = ()


def percentile(samples: Sequence[float], q: float) -> float:
    """The ``q``-th percentile (0..100) by linear interpolation between order statistics.

    Definition 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages", The American Statistician
    50 (1996): the default of numpy and R.

    Raises:
        ValueError: No samples, or ``q`` outside 0..100.
    """
    if not samples or not 0 <= q <= 100:  # noqa: PLR2004 - percent
        raise ValueError("a percentile needs samples and a q of 0..100")
    return _of_sorted(sorted(samples), q)


def _of_sorted(ordered: Sequence[float], q: float) -> float:
    rank = (len(ordered) - 1) * q / 100
    below = math.floor(rank)
    low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    return low + (high - low) * (rank - below)


def summary(samples_ns: Sequence[int]) -> Latency:
    """Percentiles, mean and range in milliseconds of samples in nanoseconds.

    Raises:
        ValueError: No samples.
    """
    if not samples_ns:
        raise ValueError("no samples to summarise")
    ordered = sorted(sample / NS_PER_MS for sample in samples_ns)
    return Latency(
        p50=_of_sorted(ordered, 50),
        p90=_of_sorted(ordered, 90),
        p99=_of_sorted(ordered, 99),
        mean=math.fsum(ordered) / len(ordered),
        min=ordered[0],
        max=ordered[-1],
        iqr=_of_sorted(ordered, 75) - _of_sorted(ordered, 25),
    )


def modes_gap(samples: Sequence[float]) -> float | None:
    """The width of the gap between two groups of samples, or None if there is one group.

    The gap is the widest between adjacent samples with at least a tenth of the samples on either side. It
    must be wider than three times the larger group's interquartile range and than 2 % of the median.
    """
    ordered = sorted(samples)
    least = max(2, math.ceil(len(ordered) * MODE_SHARE))
    inner = ordered[least - 1 : len(ordered) - least + 1]
    gaps = [(high - low, index) for index, (low, high) in enumerate(pairwise(inner), start=least)]
    if not gaps:
        return None
    gap, split = max(gaps)
    spread = max(_of_sorted(side, 75) - _of_sorted(side, 25) for side in (ordered[:split], ordered[split:]))
    if gap <= MODE_GAP * spread or gap <= MODE_STEP * _of_sorted(ordered, 50):
        return None
    return gap


def judge(
    samples_ns: Sequence[int],
    *,
    before: BoardState,
    after: BoardState,
    emulated: bool = False,
) -> Verdict:
    """Check whether latency samples, in the order they were taken, are valid.

    Args:
        samples_ns: Latency of each inference.
        before: The board before the first sample.
        after: The board after the last.
        emulated: The board is emulated: the verdict is not valid.

    Raises:
        ValueError: No samples.
    """
    reasons = ["emulated: latency says nothing about the real board"] if emulated else []
    reasons += _samples(samples_ns) + _board(before, after)
    return Verdict(valid=not reasons, reasons=tuple(reasons))


def _samples(samples_ns: Sequence[int]) -> list[str]:
    median = percentile(samples_ns, 50)
    if len(samples_ns) < MIN_SAMPLES:
        return [f"too few samples: need at least {MIN_SAMPLES} (got {len(samples_ns)})"]
    if not median:
        return ["the board's clock is too coarse: half of the samples are 0 ns"]
    reasons = []
    gap = modes_gap(samples_ns)
    if gap is not None:
        reasons.append(f"bimodal: two groups of samples, {gap / NS_PER_MS:.3g} ms apart")
    half = len(samples_ns) // 2
    change = percentile(samples_ns[half:], 50) - percentile(samples_ns[:half], 50)
    if abs(change) > MAX_DRIFT * median:
        reasons.append(f"drift: the second half's median is {change / median:+.1%} off the first's")
    spread = percentile(samples_ns, 75) - percentile(samples_ns, 25)
    if spread > MAX_SPREAD * median:
        reasons.append(f"spread: the interquartile range is {spread / median:.0%} of the median")
    tail = percentile(samples_ns, 99) / median
    if tail > MAX_TAIL:
        reasons.append(f"tail: p99 is {tail:.1f} times the median: other processes ran on the board")
    return reasons


def _board(before: BoardState, after: BoardState) -> list[str]:
    reasons = []
    if before.throttled or after.throttled:
        reasons.append("throttled: the clock was reduced because of heat or supply voltage")
    changes = [
        (new - old) / old for old, new in zip(before.frequency_khz, after.frequency_khz, strict=False) if old
    ]
    worst = max(changes, key=abs, default=0.0)
    if abs(worst) > MAX_FREQUENCY_CHANGE:
        governor = f" (governor {after.governor})" if after.governor else ""
        reasons.append(f"frequency changed by {worst:+.0%} during the run{governor}")
    if before.governor != after.governor:
        reasons.append(f"governor changed from {before.governor} to {after.governor}")
    return reasons
