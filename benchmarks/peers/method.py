"""The list of RESULTS.md on how the figures came about: ``method.md``, with what was measured about the measuring."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.kit.correctness import FP32_ERROR, INT8_COSINE
from benchmarks.kit.nets import CALIBRATION_SAMPLES, INPUT_SAMPLES
from benchmarks.kit.statistics import LEVEL, RESAMPLES
from benchmarks.peers.measure import CANARIES
from benchmarks.peers.results import Group

_WORDS = Path(__file__).with_name("method.md")


def method(groups: Sequence[Group]) -> list[str]:
    """Lines of a Markdown list."""
    latest = max(groups, key=lambda group: group.when)
    plan = latest.plan
    entries = [entry for group in groups for entry in group.entries.values()]
    calls = [entry.call_ns for entry in entries if entry.call_ns is not None]
    ready = [cold.ready_ns for entry in entries for cold in entry.cold if cold.ready_ns]
    words = _WORDS.read_text(encoding="utf-8").format(
        **plan,
        samples=CALIBRATION_SAMPLES,
        inputs=INPUT_SAMPLES,
        fp32_error=FP32_ERROR,
        int8_cosine=INT8_COSINE,
        block_ms=plan["block_ns"] / 1e6,
        untimed_ms=plan["untimed_ns"] / 1e6,
        slow_s=plan["slow_ns"] / 1e9,
        warm_block_ms=plan["block_ns"] / 3e6,
        warm_s=plan["warm_ns"] / 1e9,
        canaries=CANARIES,
        level=LEVEL,
        resamples=RESAMPLES,
        call=f"{median(calls):.0f} ns" if calls else "not measured",
        python=f"{median(ready) / 1e6:.0f} ms" if ready else "not measured",
    )
    return [*(" ".join(item.split()) for item in words.split("\n\n")), *_other_settings(groups, latest)]


def _other_settings(groups: Sequence[Group], latest: Group) -> list[str]:
    """Which groups were measured with other numbers than those above, and with which."""
    found: dict[str, list[str]] = {}
    for group in groups:
        differing = sorted(name for name, value in latest.plan.items() if group.plan.get(name) != value)
        if differing:
            words = ", ".join(f"{name} {group.plan.get(name)}" for name in differing)
            found.setdefault(words, []).append(group.cell.key)
    if not found:
        return []
    listed = "; ".join(f"{words} in {', '.join(keys)}" for words, keys in found.items())
    return [f"- **Other settings.** The numbers above are those of {latest.cell.key}. Others: {listed}."]
