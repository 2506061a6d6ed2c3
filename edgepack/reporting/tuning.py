"""What tuning brought, in words: the same in the terminal, Markdown, HTML and ``edgepack tune``."""

from edgepack.pipeline.stages.tune import TunedKernel
from edgepack.reporting import format as fmt
from edgepack.reporting.document import TuningRow

_STOPPED = {
    "trials": "all trials used",
    "minutes": "time used up",
    "settled": "stopped early, as no kernel gained any more",
    "exhausted": "stopped early, as nothing was left to try",
}


def tuning_outcome(row: TuningRow) -> str:
    """A tuning in one line: what it gained beyond noise, how many kernels, what it cost, why it ended."""
    tuned = sum(kernel.tuned for kernel in row.kernels)
    parts = [_gain(row, tuned), f"{tuned} of {len(row.kernels)} kernels tuned"]
    parts.append(f"{row.trials:,} trials in {fmt.duration(row.seconds)}")
    if row.stopped is not None:
        parts.append(_STOPPED[row.stopped])
    if row.emulated:
        parts.append("emulated: these times mean nothing")
    return "; ".join(parts)


def _gain(row: TuningRow, tuned: int) -> str:
    if row.predicted_ms is None or row.untuned_ms is None:  # a report of before these were kept
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
    """``tuned``, or why a kernel keeps its family's fallback schedule."""
    if kernel.tuned:
        return "tuned"
    if not kernel.trials:
        return _UNSEARCHED.get(kernel.ended or "", "untuned")
    if kernel.best_ms is None:
        return "untuned: no candidate ran"
    more = ", and the search was left" if kernel.ended == "settled" else ""
    return f"untuned: no candidate beat the fallback beyond noise{more}"


_UNSEARCHED = {
    "small": "untuned: too small a share to search",
    "budget": "untuned: the budget ended before its turn",
    "exhausted": "untuned: there is no other schedule to try",
}
