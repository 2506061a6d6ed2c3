"""Descriptions of tuning results, the same in the terminal, Markdown, HTML and ``edgepack tune``."""

from edgepack.pipeline.stages.tune import TunedKernel
from edgepack.reporting import format as fmt
from edgepack.reporting.document import TuningRow

_STOPPED = {
    "trials": "all trials used",
    "minutes": "time limit reached",
    "settled": "stopped early: no kernel improved any more",
    "exhausted": "stopped early: no more schedules to try",
}


def tuning_outcome(row: TuningRow) -> str:
    """A tuning result on one line: gain, noise, tuned kernels, trials, time, and why it ended."""
    tuned = sum(kernel.tuned for kernel in row.kernels)
    parts = [_gain(row, tuned), f"{tuned} of {len(row.kernels)} kernels tuned"]
    parts.append(f"{row.trials:,} trials in {fmt.duration(row.seconds)}")
    if row.stopped is not None:
        parts.append(_STOPPED[row.stopped])
    if row.emulated:
        parts.append("emulated: these times are meaningless")
    return "; ".join(parts)


def _gain(row: TuningRow, tuned: int) -> str:
    if row.predicted_ms is None or row.untuned_ms is None:  # an older report without these fields
        predicted = row.curve[-1].predicted_ms if row.curve else None
        return fmt.DASH if predicted is None else f"{fmt.milliseconds(predicted)} predicted"
    noise = "" if row.noise_ms is None else f" (noise {fmt.milliseconds(row.noise_ms)})"
    if not row.trials:
        return f"nothing tried: {fmt.milliseconds(row.untuned_ms)} predicted{noise}"
    if not tuned:
        return f"no gain: {fmt.milliseconds(row.untuned_ms)} predicted{noise}"
    before, after = fmt.milliseconds(row.untuned_ms), fmt.milliseconds(row.predicted_ms)
    return f"{before} -> {after} predicted{noise}"


def kernel_outcome(kernel: TunedKernel) -> str:
    """``tuned``, or why a kernel uses its family's fallback schedule."""
    if kernel.tuned:
        return "tuned"
    if not kernel.trials:
        return _UNSEARCHED.get(kernel.ended or "", "untuned")
    if kernel.best_ms is None:
        return "untuned: no candidate ran"
    more = ", and its search was stopped" if kernel.ended == "settled" else ""
    return f"untuned: no candidate beat the fallback by more than the noise{more}"


_UNSEARCHED = {
    "small": "untuned: its share of the runtime is too small to search",
    "budget": "untuned: the budget ran out before it was searched",
    "exhausted": "untuned: there are no other schedules to try",
}
