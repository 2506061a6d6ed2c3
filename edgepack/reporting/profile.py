"""A profile as text: the table of its kernels, and what was measured around it; the same in terminal, Markdown and HTML."""

from collections.abc import Iterator, Sequence

from edgepack.measuring.profile import KernelProfile, Profile
from edgepack.reporting import format as fmt
from edgepack.spec.kernels import NodeRef

HEAD = ("kernel", "calls", "time", "share", "GMAC/s", "bytes", "roofline", "schedule", "computes")
NUMBERS = (1, 2, 3, 4, 5, 6)
"""Columns that are aligned to the right."""

_MOST_NODES = 3


def rows(profile: Profile, most: int | None = None) -> Iterator[tuple[str, ...]]:
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


def summary(profile: Profile) -> Iterator[str]:
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


def rest(profile: Profile, most: int) -> str | None:
    """What the kernels after the first ``most`` take together; None if there are none."""
    left = profile.kernels[most:]
    if not left:
        return None
    return f"{len(left)} more kernels: {fmt.milliseconds(sum(k.ms for k in left))}, {sum(k.share for k in left) * 100:.1f} %"
