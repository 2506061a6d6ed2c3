"""Generate the page of one kind of CPU from the results of its groups."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.kit.correctness import EXACT_S, FP32_ERROR, INT8_COSINE, Exactness
from benchmarks.kit.documents import fill_template, markdown
from benchmarks.kit.nets import CALIBRATION_SAMPLES, INPUT_SAMPLES
from benchmarks.kit.statistics import LEVEL, RESAMPLES, Ratio
from benchmarks.peers.measure import CANARIES
from benchmarks.peers.ranking import OURS, Ranked, Standing, losses
from benchmarks.peers.results import Cell, ContestantResult, Group
from edgepack.reporting import format as fmt

_WORDS, _METHOD = (Path(__file__).with_name(name) for name in ("page.md", "method.md"))
_KERNELS = {"fma": "multiply-add", "dot": "dot product", "madd": "in int16, vpmaddwd"}
_STATUS = {"wrong": "wrong outputs", "failed": "failed", "unsupported": "not supported"}
_SHORT = 90  # maximum characters of a reason in a table
_COLUMNS = (
    "contestant",
    "median",
    "p90",
    "IQR",
    "ratio to edgepack [95 %]",
    "difference from onnxruntime fp32",
    "cold start",
    "thereof load",
    "peak RSS",
    "size: model + runtime",
    "share of roofline",
)


def page(kind: str, ranked: Sequence[Ranked], drawn: Sequence[tuple[str, str]] = ()) -> str:
    """Return the page of one kind of CPU; ``drawn`` are titles and paths of charts."""
    pictures = [f"![Ratio to edgepack by net and contestant: {title}]({path})" for title, path in drawn]
    timed = [one for one in ranked if one.ours is not None and one.best_peer is not None]
    return fill_template(
        _WORDS,
        kind=kind,
        groups=len(ranked),
        timed=len(timed),
        lead=sum(not one.ahead for one in timed),
        behind=len(losses(ranked)),
        overview=overview(ranked),
        losses=losses_table(ranked),
        charts="\n\n".join(pictures),
        cells="\n\n".join(_group(one) for one in ranked),
        without=_without(ranked),
        limits=_limits(ranked),
        method="\n".join(method([one.group for one in ranked])),
    )


def several(count: int, what: str) -> str:
    """Format e.g. ``1 thread``, ``2 threads``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def part_title(precision: str, threads: int) -> str:
    """Return the name of a precision with a number of threads."""
    return f"{precision}, {several(threads, 'thread')}"


def _name(group: Group) -> str:
    return f"{group.title}, {part_title(group.precision, group.threads)}"


def overview(ranked: Sequence[Ranked]) -> str:
    """Return a table with a row per net and a column per precision and number of threads."""
    columns = sorted({(one.group.precision, one.group.threads) for one in ranked})
    nets = list(dict.fromkeys((one.group.net, one.group.title) for one in ranked))
    places = {one.group.cell: _place(one) for one in ranked}
    rows = []
    for net, title in nets:
        rows.append([title, *(places.get(Cell(net, *column), "not measured") for column in columns)])
    return markdown(["net", *(part_title(*column) for column in columns)], rows, right=9)


def _place(ranked: Ranked) -> str:
    if ranked.ours is None:
        entry = ranked.group.entries.get(OURS)
        return f"edgepack {_STATUS[entry.status]}" if entry and entry.status != "measured" else "no edgepack"
    place = f"{ranked.order.index(ranked.ours) + 1} of {len(ranked.order)}"
    peer = ranked.best_peer
    if peer is None or peer.to_ours is None:
        return place
    return f"{place}; {peer.title} {fmt.significant(peer.to_ours.value)}"


def losses_table(ranked: Sequence[Ranked]) -> str:
    """Return a table of groups in which a peer is faster than edgepack, by size of the gap."""
    rows = []
    for one in losses(ranked):
        first, *others = one.ahead
        ratio = first.to_ours
        rows.append(
            [
                _name(one.group),
                _interval(1 / ratio.value, 1 / ratio.high, 1 / ratio.low, fmt.TIMES),
                first.title,
                _ms(first.times.median),
                _ms(one.ours.times.median),
                ", ".join(other.title for other in others) or fmt.DASH,
            ]
        )
    if not rows:
        return "No peer is significantly faster in any measured group."
    columns = (
        "group",
        "slower by [95 %]",
        "than",
        "peer's median",
        "edgepack's median",
        "also faster than edgepack",
    )
    return markdown(columns, rows)


def _group(ranked: Ranked) -> str:
    group = ranked.group
    checked = any(entry.exactness is not None for entry in group.entries.values())
    rows = [_row(one, checked=checked) for one in ranked.order]
    for entry in group.entries.values():
        if entry.status != "measured":
            words = f"{_STATUS[entry.status]}: {_short(entry.reason or '')}"
            empty = [fmt.DASH] * 3
            rows.append(
                [entry.title, words, *empty, _distance(entry), *[fmt.DASH] * checked, *empty, *empty[1:]]
            )
    kept = sum(block.discarded is None for block in group.blocks)
    rounds = max((one.rounds for one in ranked.order), default=0)
    notes = [f"{several(rounds, 'round')}, {kept} of {len(group.blocks)} blocks kept, {group.when[:10]}."]
    fewer = [f"{one.entry.title} ({one.rounds})" for one in ranked.order if one.rounds < rounds]
    if fewer:
        notes.append(f"Fewer rounds: {', '.join(fewer)}.")
    restless = [one.entry.title for one in ranked.order if not one.entry.warm_stable]
    if restless:
        notes.append(f"Not stable at the end of the warm-up: {', '.join(restless)}.")
    notes += [f"{note[0].upper()}{note[1:]}." for note in group.notes]
    if group.roofline:
        notes.append(
            f"Roofline {_ms(group.roofline.ns)}, bound by {group.roofline.bound}:"
            f" {fmt.count(group.roofline.macs)}MAC, {fmt.size(group.roofline.bytes)}."
        )
    title = f"### {_name(group)}"
    return "\n\n".join(
        [title, markdown(_columns(checked=checked), rows), " ".join(notes), *_preparation(group)]
    )


def _preparation(group: Group) -> list[str]:
    """Describe how each contestant's model was prepared: kind of int8, tuning time."""
    rows, kinds = [], []
    for entry in group.entries.values():
        if entry.notes:
            words = (f"{key.replace('_', ' ')}: {_note(value)}" for key, value in entry.notes.items())
            rows.append([entry.title, _or_dash(fmt.duration, entry.prepare_seconds), "; ".join(words)])
        if "quantization" in entry.notes and entry.status == "measured":
            kinds.append(f"{entry.title}: {entry.notes['quantization']}")
    if not rows:
        return []
    shown = [f"int8 quantization: {'; '.join(kinds)}."] if kinds else []
    summary = "<details><summary>Preparation</summary>"
    return [*shown, summary, markdown(("contestant", "took", "notes"), rows, right=9), "</details>"]


def _note(value: Any) -> str:
    return fmt.significant(value, 4) if isinstance(value, float) else str(value)


def _columns(*, checked: bool) -> list[str]:
    columns = list(_COLUMNS)
    if checked:
        columns.insert(columns.index("cold start"), "difference from exact (quantization error), top-1")
    return columns


def _row(one: Standing, *, checked: bool) -> list[str]:
    entry = one.entry
    return [
        f"**{one.title}**" if one.name == OURS else one.title,
        _ms(one.times.median),
        _ms(one.times.p90),
        _ms(one.times.iqr),
        "1" if one.name == OURS else _ratio(one.to_ours),
        _distance(entry),
        *([_exactness(entry.exactness)] if checked else []),
        _ms(one.cold("start_ns")),
        _ms(one.cold("load_ns")),
        _or_dash(fmt.kib, one.cold("peak_rss_kib")),
        f"{_or_dash(fmt.size, entry.model_bytes)} + {_or_dash(fmt.size, entry.runtime_bytes)}",
        _or_dash(fmt.percent, one.roofline_share),
    ]


def _ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return fmt.DASH
    if ratio.low is None or ratio.high is None:
        return f"{fmt.significant(ratio.value)} (too few rounds)"
    return _interval(ratio.value, ratio.low, ratio.high)


def _interval(value: float, low: float, high: float, unit: str = "") -> str:
    return f"{fmt.significant(value)}{unit} [{fmt.significant(low)}, {fmt.significant(high)}]"


def _distance(entry: ContestantResult) -> str:
    if entry.relative_error is None or entry.cosine is None:
        return fmt.DASH
    noise = "" if entry.sqnr_db is None else f", SQNR {entry.sqnr_db:.1f}{fmt.THIN}dB"
    return f"{entry.relative_error:.1e}, cos {entry.cosine:.4f}{noise}"


def _exactness(exactness: Exactness | None) -> str:
    if exactness is None:
        return "fp32 alone"
    difference, quantizing = (
        "not finite" if value is None else f"{value:.1e}"
        for value in (exactness.difference, exactness.quantization)
    )
    return f"{difference} ({quantizing}), {exactness.top1}/{exactness.samples}"


def _or_dash(form: Callable[[float], str], value: float | None) -> str:
    return fmt.DASH if value is None else form(value)


def _ms(ns: float | None) -> str:
    return _or_dash(lambda value: fmt.milliseconds(value / 1e6), ns)


def _short(text: str) -> str:
    line, *_ = text.splitlines() or [""]
    return line if len(line) <= _SHORT else f"{line[: _SHORT - 1]}\N{HORIZONTAL ELLIPSIS}"


def _without(ranked: Sequence[Ranked]) -> str:
    """List every cell without a time, with its reason; a reason shared by several groups is listed once."""
    groups_by_reason: dict[tuple[str, str, str], list[str]] = {}
    for one in ranked:
        for entry in one.group.entries.values():
            if entry.status != "measured":
                words = f"{_STATUS[entry.status]} ({entry.phase})"
                reason = " ".join((entry.reason or "").split())
                groups_by_reason.setdefault((entry.title, words, reason), []).append(_name(one.group))
            elif entry.cold_reason:
                key = (entry.title, "no cold start", " ".join(entry.cold_reason.split()))
                groups_by_reason.setdefault(key, []).append(_name(one.group))
    if not groups_by_reason:
        return "All contestants were measured in all groups."
    rows = [
        [title, "; ".join(groups), words, reason]
        for (title, words, reason), groups in groups_by_reason.items()
    ]
    return markdown(("contestant", "groups", "status", "reason"), rows, right=9)


def _limits(ranked: Sequence[Ranked]) -> str:
    latest: dict[int, Group] = {}
    for one in sorted(ranked, key=lambda one: one.group.when):
        if one.group.limits:
            latest[one.group.threads] = one.group
    if not latest:
        return "Not measured."
    rows = []
    for threads, group in sorted(latest.items()):
        cells = [_limit(group.limits[name]) for name in ("fp32", "int8", "read", "triad")]
        rows.append([several(threads, "thread"), *cells])
    machine = next(iter(latest.values())).machine
    cores = [core for one in ranked for core in zip(*one.group.canary_references_ns, strict=True)]
    references = [median(core) / 1e6 for core in cores]
    span = f"{min(references):.3f} to {max(references):.3f} ms" if references else "unknown"
    summary = f"{machine_words(machine)} The canary took {span} over the groups."
    return f"{summary}\n\n{markdown(('', 'fp32', 'int8', 'memory read', 'triad'), rows)}"


def machine_words(machine: Mapping[str, Any]) -> str:
    """Describe a machine in one line."""
    virtual = ", a virtual machine" if machine["virtual"] else ""
    return (
        f"{machine['cpu']} ({machine['core']}), {machine['cores']} cores{virtual}, {machine['memory_gib']} GiB,"
        f" {machine['system']}."
    )


def _limit(limit: Mapping[str, Any] | None) -> str:
    if limit is None:
        return "none"
    how = _KERNELS.get(limit["kernel"].partition("_")[0])
    return f"{limit['peak']:.4g} {limit['unit']}{f' ({how})' if how else ''}"


def method(groups: Sequence[Group]) -> list[str]:
    """Return the description of the method: ``method.md``, with measured properties of the measurement."""
    latest = max(groups, key=lambda group: group.when)
    plan = latest.plan
    entries = [entry for group in groups for entry in group.entries.values()]
    calls = [entry.call_ns for entry in entries if entry.call_ns is not None]
    ready = [cold.ready_ns for entry in entries for cold in entry.cold if cold.ready_ns]
    words = _METHOD.read_text(encoding="utf-8").format(
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
        exact_s=EXACT_S,
        level=LEVEL,
        resamples=RESAMPLES,
        call=f"{median(calls):.0f} ns" if calls else "not measured",
        python=f"{median(ready) / 1e6:.0f} ms" if ready else "not measured",
    )
    return [*(" ".join(item.split()) for item in words.split("\n\n")), *_other_settings(groups, latest)]


def _other_settings(groups: Sequence[Group], latest: Group) -> list[str]:
    """Describe which groups were measured with settings other than those above."""
    groups_by_settings: dict[str, list[str]] = {}
    for group in groups:
        differing = sorted(name for name, value in latest.plan.items() if group.plan.get(name) != value)
        if differing:
            words = ", ".join(f"{name} {group.plan.get(name)}" for name in differing)
            groups_by_settings.setdefault(words, []).append(group.cell.key)
    if not groups_by_settings:
        return []
    listed = "; ".join(f"{words} in {', '.join(keys)}" for words, keys in groups_by_settings.items())
    return [f"- **Other settings.** The numbers above are those of {latest.cell.key}. Others: {listed}."]
