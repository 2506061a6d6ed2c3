"""RESULTS.md and its charts from the results of groups."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.kit.correctness import FP32_ERROR, INT8_COSINE
from benchmarks.kit.documents import filled, markdown, write_text
from benchmarks.kit.nets import CALIBRATION_SAMPLES, INPUT_SAMPLES
from benchmarks.kit.statistics import LEVEL, RESAMPLES, Ratio
from benchmarks.peers import charts
from benchmarks.peers.measure import CANARIES
from benchmarks.peers.ranking import OURS, Ranked, Standing, losses, rank
from benchmarks.peers.results import Cell, ContestantResult, Group
from edgepack.reporting import format as fmt

_WORDS, _METHOD = (Path(__file__).with_name(name) for name in ("page.md", "method.md"))
_STATUS = {"wrong": "wrong outputs", "failed": "failed", "unsupported": "not supported"}
_SHORT = 90  # characters of a reason in a table
_COLUMNS = (
    "contestant",
    "median",
    "p90",
    "IQR",
    "ratio to edgepack [95 %]",
    "outputs against onnxruntime fp32",
    "cold start",
    "of it load",
    "peak RSS",
    "size: model + runtime",
    "of roofline",
)


def write_report(groups: Sequence[Group], out: Path) -> Path:
    """Write RESULTS.md and charts/*.svg below ``out``; the path of the first."""
    ranked = [rank(group) for group in groups]
    for old in (out / "charts").glob("*.svg"):
        old.unlink()
    drawn = []
    for precision, threads in sorted({(group.precision, group.threads) for group in groups}):
        part = [one for one in ranked if (one.group.precision, one.group.threads) == (precision, threads)]
        title, name = _kind(precision, threads), f"charts/{precision}-{threads}t.svg"
        svg = charts.ratios(title, part)
        if svg is not None:
            write_text(out / name, svg)
            drawn.append((title, name))
    path = out / "RESULTS.md"
    write_text(path, report(ranked, drawn))
    return path


def report(ranked: Sequence[Ranked], drawn: Sequence[tuple[str, str]] = ()) -> str:
    """The whole document; ``drawn`` are titles and paths of charts."""
    if not ranked:
        return "# edgepack beside its peers\n\nThere are no results yet.\n"
    pictures = [f"![Ratio to edgepack by net and contestant: {title}]({path})" for title, path in drawn]
    timed = [one for one in ranked if one.ours is not None and one.best_peer is not None]
    return filled(
        _WORDS,
        groups=len(ranked),
        timed=len(timed),
        lead=sum(not one.ahead for one in timed),
        behind=len(losses(ranked)),
        overview=_overview(ranked),
        losses=_losses(ranked),
        charts="\n\n".join(pictures),
        cells="\n\n".join(_group(one) for one in ranked),
        without=_without(ranked),
        limits=_limits(ranked),
        method="\n".join(method([one.group for one in ranked])),
    )


def _several(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _kind(precision: str, threads: int) -> str:
    return f"{precision}, {_several(threads, 'thread')}"


def _name(group: Group) -> str:
    return f"{group.title}, {_kind(group.precision, group.threads)}"


def _overview(ranked: Sequence[Ranked]) -> str:
    """One row a net, one column a precision and number of threads."""
    columns = sorted({(one.group.precision, one.group.threads) for one in ranked})
    nets = list(dict.fromkeys((one.group.net, one.group.title) for one in ranked))
    places = {one.group.cell: _place(one) for one in ranked}
    rows = []
    for net, title in nets:
        rows.append([title, *(places.get(Cell(net, *column), "not measured") for column in columns)])
    return markdown(["net", *(_kind(*column) for column in columns)], rows, right=9)


def _place(ranked: Ranked) -> str:
    if ranked.ours is None:
        entry = ranked.group.entries.get(OURS)
        return f"edgepack {_STATUS[entry.status]}" if entry and entry.status != "measured" else "no edgepack"
    place = f"{ranked.order.index(ranked.ours) + 1} of {len(ranked.order)}"
    peer = ranked.best_peer
    if peer is None or peer.to_ours is None:
        return place
    return f"{place}; {peer.entry.title} {fmt.significant(peer.to_ours.value)}"


def _losses(ranked: Sequence[Ranked]) -> str:
    rows = []
    for one in losses(ranked):
        first, *others = one.ahead
        ratio = first.to_ours
        rows.append(
            [
                _name(one.group),
                _interval(1 / ratio.value, 1 / ratio.high, 1 / ratio.low, fmt.TIMES),
                first.entry.title,
                _ms(first.times.median),
                _ms(one.ours.times.median),
                ", ".join(other.entry.title for other in others) or fmt.DASH,
            ]
        )
    if not rows:
        return "In no measured group is a peer faster beyond chance."
    columns = ("group", "slower by [95 %]", "than", "its median", "edgepack's", "also faster than edgepack")
    told = "By size of the gap. Groups in which edgepack has no time are listed further down."
    return f"{told}\n\n{markdown(columns, rows)}"


def _group(ranked: Ranked) -> str:
    group = ranked.group
    rows = [_row(one) for one in ranked.order]
    for entry in group.entries.values():
        if entry.status != "measured":
            words = f"{_STATUS[entry.status]}: {_short(entry.reason or '')}"
            rows.append([entry.title, words, *[fmt.DASH] * 3, _distance(entry), *[fmt.DASH] * 5])
    kept = sum(block.discarded is None for block in group.blocks)
    rounds = max((one.rounds for one in ranked.order), default=0)
    notes = [f"{_several(rounds, 'round')}, {kept} of {len(group.blocks)} blocks kept, {group.when[:10]}."]
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
    return "\n\n".join([title, markdown(_COLUMNS, rows), " ".join(notes), *_preparation(group)])


def _preparation(group: Group) -> list[str]:
    """How each contestant made its model, in its own words: what kind of int8 it is, and how long it tuned."""
    rows, kinds = [], []
    for entry in group.entries.values():
        if entry.notes:
            words = (f"{key.replace('_', ' ')}: {_note(value)}" for key, value in entry.notes.items())
            rows.append([entry.title, _or_dash(fmt.duration, entry.prepare_seconds), "; ".join(words)])
        if "quantization" in entry.notes and entry.status == "measured":
            kinds.append(f"{entry.title}: {entry.notes['quantization']}")
    if not rows:
        return []
    shown = [f"What int8 is: {'; '.join(kinds)}."] if kinds else []
    summary = "<details><summary>How each was prepared</summary>"
    return [*shown, summary, markdown(("contestant", "took", "notes"), rows, right=9), "</details>"]


def _note(value: Any) -> str:
    return fmt.significant(value, 4) if isinstance(value, float) else str(value)


def _row(one: Standing) -> list[str]:
    entry = one.entry
    return [
        f"**{entry.title}**" if one.name == OURS else entry.title,
        _ms(one.times.median),
        _ms(one.times.p90),
        _ms(one.times.iqr),
        "1" if one.name == OURS else _ratio(one.to_ours),
        _distance(entry),
        _ms(one.cold("start_ns")),
        _ms(one.cold("load_ns")),
        _or_dash(fmt.kib, one.cold("peak_rss_kib")),
        f"{_or_dash(fmt.size, entry.model_bytes)} + {_or_dash(fmt.size, entry.runtime_bytes)}",
        _or_dash(fmt.percent, one.roofline_share),
    ]


def _ratio(found: Ratio | None) -> str:
    if found is None:
        return fmt.DASH
    if found.low is None or found.high is None:
        return f"{fmt.significant(found.value)} (too few rounds)"
    return _interval(found.value, found.low, found.high)


def _interval(value: float, low: float, high: float, unit: str = "") -> str:
    return f"{fmt.significant(value)}{unit} [{fmt.significant(low)}, {fmt.significant(high)}]"


def _distance(entry: ContestantResult) -> str:
    if entry.relative_error is None or entry.cosine is None:
        return fmt.DASH
    noise = "" if entry.sqnr_db is None else f", SQNR {entry.sqnr_db:.1f}{fmt.THIN}dB"
    return f"{entry.relative_error:.1e}, cos {entry.cosine:.4f}{noise}"


def _or_dash(form: Callable[[float], str], value: float | None) -> str:
    return fmt.DASH if value is None else form(value)


def _ms(ns: float | None) -> str:
    return _or_dash(lambda value: fmt.milliseconds(value / 1e6), ns)


def _short(text: str) -> str:
    line, *_ = text.splitlines() or [""]
    return line if len(line) <= _SHORT else f"{line[: _SHORT - 1]}\N{HORIZONTAL ELLIPSIS}"


def _without(ranked: Sequence[Ranked]) -> str:
    """Every cell that has no time, with its reason; the same reason in several groups is told once."""
    told: dict[tuple[str, str, str], list[str]] = {}
    for one in ranked:
        for entry in one.group.entries.values():
            if entry.status != "measured":
                words = f"{_STATUS[entry.status]} ({entry.phase})"
                reason = " ".join((entry.reason or "").split())
                told.setdefault((entry.title, words, reason), []).append(_name(one.group))
            elif entry.cold_reason:
                key = (entry.title, "no cold start", " ".join(entry.cold_reason.split()))
                told.setdefault(key, []).append(_name(one.group))
    if not told:
        return "Every contestant was measured in every group."
    rows = [[title, "; ".join(groups), words, reason] for (title, words, reason), groups in told.items()]
    return markdown(("contestant", "groups", "what", "reason"), rows, right=9)


def _limits(ranked: Sequence[Ranked]) -> str:
    latest: dict[int, Group] = {}
    for one in sorted(ranked, key=lambda one: one.group.when):
        if one.group.limits:
            latest[one.group.threads] = one.group
    if not latest:
        return "They were not measured."
    rows = []
    for threads, group in sorted(latest.items()):
        cells = [
            f"{group.limits[name]['peak']:.4g} {group.limits[name]['unit']}" if group.limits[name] else "none"
            for name in ("fp32", "int8", "read", "triad")
        ]
        rows.append([_several(threads, "thread"), *cells])
    machine = next(iter(latest.values())).machine
    cores = [core for one in ranked for core in zip(*one.group.canary_references_ns, strict=True)]
    references = [median(core) / 1e6 for core in cores]
    span = f"{min(references):.3f} to {max(references):.3f} ms" if references else "unknown"
    virtual = ", a virtual machine" if machine["virtual"] else ""
    told = (
        f"{machine['cpu']}, {machine['cores']} cores{virtual}, {machine['memory_gib']} GiB, {machine['system']}."
        f" The canary took {span} over the groups."
    )
    return f"{told}\n\n{markdown(('', 'fp32 FMA', 'int8 dot product', 'memory read', 'triad'), rows)}"


def method(groups: Sequence[Group]) -> list[str]:
    """A list of how the figures came about: ``method.md``, with what was measured about the measuring."""
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
