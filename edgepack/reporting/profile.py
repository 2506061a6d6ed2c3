"""A profile in terminal, Markdown and HTML: the table of its kernels, a chart, and what was measured around it."""

from collections.abc import Iterator, Sequence

from edgepack.measuring.profile import KernelProfile, ModelProfile
from edgepack.reporting import charts
from edgepack.reporting import format as fmt
from edgepack.reporting.document import Report, Row
from edgepack.reporting.elements import EMULATED_PILL, grid, legend, notes, section, table
from edgepack.reporting.markup import Markup, el
from edgepack.spec.kernels import NodeRef

HEAD = ("kernel", "calls", "time", "share", "GMAC/s", "bytes", "roofline", "schedule", "computes")
NUMBERS = (1, 2, 3, 4, 5, 6)
"""Columns that are aligned to the right."""

MOST = 20
"""Kernels in the Markdown report."""

_MOST_NODES, _MOST_BARS = 3, 12


def rows_of(profile: ModelProfile, most: int | None = None) -> Iterator[tuple[str, ...]]:
    """The slowest kernels, one per row, at most ``most``; columns as in ``HEAD``."""
    for kernel in profile.kernels[:most]:
        yield (
            kernel.name,
            str(kernel.calls),
            fmt.milliseconds(kernel.ms),
            f"{kernel.share * 100:.1f}{fmt.THIN}%",
            fmt.DASH if kernel.gmacs is None else fmt.significant(kernel.gmacs),
            fmt.size(kernel.bytes) if kernel.bytes else fmt.DASH,
            _roofline(kernel),
            "tuned" if kernel.tuned else "fallback",
            computes(kernel.nodes),
        )


def _roofline(kernel: KernelProfile) -> str:
    if kernel.roofline is None:
        return fmt.DASH
    return f"{kernel.roofline * 100:.0f}{fmt.THIN}% {kernel.bound}"


def computes(nodes: Sequence[NodeRef]) -> str:
    """The nodes of the ONNX model, by module where the file tells: ``features.0 (Conv, Clip), …``."""
    if not nodes:
        return "not known"
    groups: list[tuple[str, list[str]]] = []
    for node in nodes:
        if node.module is not None or not groups:
            groups.append((node.module or node.name, []))
        groups[-1][1].append(node.operator)
    shown = [f"{name} ({', '.join(operators)})" for name, operators in groups[:_MOST_NODES]]
    return ", ".join([*shown, f"{len(groups) - _MOST_NODES} more"] if len(groups) > _MOST_NODES else shown)


def summary(profile: ModelProfile) -> Iterator[str]:
    """What the table does not say: the whole inference, the overhead, the board."""
    label = " (emulated: times mean nothing)" if profile.emulated else ""
    threads = f"{profile.threads} thread{'s' if profile.threads > 1 else ''}"
    yield (
        f"inference {fmt.milliseconds(profile.plain_ms)} with {threads}, kernels {fmt.milliseconds(profile.kernels_ms)}; "
        f"medians of {profile.runs}{label}"
    )
    over = profile.overhead
    yield (
        f"overhead of profiling {over.median * 100:+.2f} % (half of the pairs of inferences: {over.p25 * 100:+.2f} "
        f"to {over.p75 * 100:+.2f} %)"
    )
    if profile.roofline is None:
        yield "no roofline: that of an emulated board would be the emulator's"
        return
    board = profile.roofline
    yield (
        f"the board with {threads}: float32 {fmt.significant(board.float32.gmacs)} GMAC/s ({board.float32.isa}), "
        f"int8 {fmt.significant(board.int8.gmacs)} GMAC/s ({board.int8.isa})"
    )
    levels = (
        f"{fmt.size(level.bytes)}: {fmt.significant(max(level.read_gbps, level.copy_gbps))} GB/s"
        for level in board.memory
    )
    yield f"memory, by how much of it is used: {', '.join(levels)}"


def rest(profile: ModelProfile, most: int) -> str | None:
    """What the kernels after the first ``most`` take together; None if there are none."""
    left = profile.kernels[most:]
    if not left:
        return None
    return f"{len(left)} more kernels: {fmt.milliseconds(sum(k.ms for k in left))}, {sum(k.share for k in left) * 100:.1f} %"


def kernels(report: Report) -> Markup | None:
    """The HTML report's section: charts of the slowest kernels, baseline and release side by side, and all kernels as a table."""
    rows = [row for row in report.rows if row.profile or "profile" in row.missing]
    if not rows:
        return None
    note = (
        "The time of each kernel in an inference, medians of runs in turn with plain ones. Charts of a target have one scale. "
        "The roofline is the share of what the board did at most in multiply-accumulates or in bytes, whichever is the limit."
    )
    cards = (_card(report, row, _longest(rows, row)) for row in rows)
    return section("Kernels", note, legend("tuned", "untuned"), grid(*cards))


def _longest(rows: Sequence[Row], of: Row) -> float:
    """The time of the slowest kernel on a target's device, of any candidate."""
    here = [row.profile for row in rows if (row.target, row.device) == (of.target, of.device) and row.profile]
    return max((kernel.ms for profile in here for kernel in profile.kernels), default=0.0)


def _card(report: Report, row: Row, longest: float) -> Markup:
    title = el("h3", f"{report.place_name(row)}, {row.candidate} ", EMULATED_PILL if row.emulated else None)
    if row.profile is None:
        return el("div", title, el("p", row.missing["profile"], cls="soft"), cls="card")
    bars = [
        (
            computes(kernel.nodes) if kernel.nodes else kernel.name,
            kernel.ms,
            f"{fmt.milliseconds(kernel.ms)}, {kernel.share * 100:.0f}{fmt.THIN}%",
            "tuned" if kernel.tuned else "untuned",
        )
        for kernel in row.profile.kernels[:_MOST_BARS]
    ]
    left = rest(row.profile, _MOST_BARS)
    lines = (
        (el("td", name, cls="wrap"), *numbers, el("td", nodes, cls="wrap"))
        for name, *numbers, nodes in rows_of(row.profile)
    )
    listed = table(tuple(word[0].upper() + word[1:] for word in HEAD), lines, numbers=NUMBERS)
    return el(
        "div",
        title,
        charts.times(f"The slowest kernels of the {row.candidate} on {row.target}", bars, longest),
        notes(*([left] if left else []), *summary(row.profile)),
        el("details", el("summary", f"{len(row.profile.kernels)} kernels"), listed),
        cls="card",
    )
