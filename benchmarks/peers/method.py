"""The paragraph of RESULTS.md on how the figures came about, with what was measured about the measuring."""

from collections.abc import Sequence
from statistics import median

from benchmarks.kit.correctness import FP32_ERROR, INT8_COSINE
from benchmarks.kit.nets import CALIBRATION_SAMPLES, INPUT_SAMPLES
from benchmarks.kit.statistics import LEVEL, RESAMPLES
from benchmarks.peers.measure import CANARIES
from benchmarks.peers.results import Group


def method(groups: Sequence[Group]) -> list[str]:
    """Lines of a Markdown list."""
    latest = max(groups, key=lambda group: group.when)
    plan = latest.plan
    entries = [entry for group in groups for entry in group.entries.values()]
    calls = [entry.call_ns for entry in entries if entry.call_ns is not None]
    ready = [cold.ready_ns for entry in entries for cold in entry.cold if cold.ready_ns]
    call = f"{median(calls):.0f} ns" if calls else "not measured"
    python = f"{median(ready) / 1e6:.0f} ms" if ready else "not measured"
    return [
        (
            f"- **Same work.** Random weights and inputs from fixed seeds, the same for all; int8 is each peer's own"
            f" recommended path on the same {CALIBRATION_SAMPLES} calibration samples. Before a time counts, outputs on"
            f" {INPUT_SAMPLES} inputs are compared with onnxruntime's in fp32: in fp32 max |y - ref| may be"
            f" {FP32_ERROR:.0e} of max |ref|; in int8 the cosine must reach {INT8_COSINE}, which tells a broken"
            " conversion from a coarse one and says nothing about accuracy. Cells that fail are listed as wrong."
        ),
        (
            "- **Same conditions.** A process for each contestant in an environment of its own, all pinned to the same"
            " cores (the last ones of the machine), all loaded at once, every one but the measured stopped with"
            " SIGSTOP. Preparing (conversion, quantization, tuning) may use all cores and is not timed here."
        ),
        (
            "- **Rounds.** A round is a random order of all contestants (seed in the JSON) and then its mirror image. A"
            f" block is about {plan['block_ns'] / 1e6:.0f} ms of inferences, at least {plan['least_runs']} and at most"
            f" {plan['most_runs']}, after about {plan['untimed_ns'] / 1e6:.0f} ms of untimed ones (at least one) that"
            f" refill the caches. An inference that takes {plan['slow_ns'] / 1e9:g} s or more is a block of its own."
            f" Up to {plan['rounds']} rounds; contestants too slow for their share of the group's time take part in"
            f" fewer, at least {plan['least_rounds']}."
        ),
        (
            f"- **Warm-up.** Blocks of about {plan['block_ns'] / 3e6:.0f} ms until the medians of the last three lie"
            f" within {plan['stable']:.0%} of each other, or {plan['warm_ns'] / 1e9:g} s have gone by; the table says"
            " where it was the latter."
        ),
        (
            "- **Canary.** A fixed piece of arithmetic runs on each of the cell's cores before and after every block;"
            f" a reading is the median of {CANARIES}. A block begins when a reading is within {plan['drift']:.0%} of the"
            " reference; where it is not any more after the block, the block is discarded and taken again, up to"
            f" {plan['retakes']} times. The reference is the lower quartile of {plan['burst']} readings before the first"
            f" round, taken until two bursts agree. Where the pace is slower for more than {plan['patience']:g} s,"
            f" or more than {plan['faster']:.0%} faster, and steady, the rounds so far are dropped and the group starts"
            " anew. Discarded blocks stay in the JSON, marked."
        ),
        (
            f"- **Intervals.** {LEVEL:.0%} percentile intervals of a paired block bootstrap: {RESAMPLES} times, whole"
            " rounds are drawn with replacement, and both sides take their samples from the same rounds."
        ),
        (
            "- **The call.** Peers with a Python binding are timed around its thinnest call, inputs and outputs bound"
            f" beforehand; edgepack's agent times itself in C. A Python call that does nothing takes {call} there,"
            " which is in the peers' times and not in edgepack's."
        ),
        (
            "- **Cold start.** From the start of a fresh process to the first output, files in the page cache; median."
            f" For peers with a Python binding, starting Python and importing numpy is {python} of it; edgepack's"
            " agent is a C program. Peak RSS is the kernel's high-water mark of that process."
        ),
        (
            "- **Size.** Files of the model, and all others that inference may read (libraries, Python packages with"
            " what they need). Python and numpy are not counted: a release would call most of these libraries from C."
        ),
        (
            "- **Roofline.** The larger of multiply-adds at the measured arithmetic peak and bytes (weights, inputs"
            " and outputs once, at the precision) beyond the last-level cache at the measured read bandwidth;"
            " activations are taken to stay in the caches. The share is that time over the median; above 100 % the"
            " contestant multiplies less than the definition does, as Winograd's convolutions do."
        ),
        *_other_settings(groups, latest),
    ]


def _other_settings(groups: Sequence[Group], latest: Group) -> list[str]:
    """Which groups were measured with other numbers than those above, and with which."""
    found: dict[str, list[str]] = {}
    for group in groups:
        differing = sorted(name for name, value in latest.plan.items() if group.plan.get(name) != value)
        if differing:
            words = ", ".join(f"{name} {group.plan.get(name)}" for name in differing)
            found.setdefault(words, []).append(group.key)
    listed = "; ".join(f"{words} in {', '.join(keys)}" for words, keys in found.items())
    return (
        [f"- **Other settings.** The numbers above are those of {latest.key}. Others: {listed}."]
        if found
        else []
    )
