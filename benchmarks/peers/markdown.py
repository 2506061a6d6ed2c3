"""RESULTS.md from the results of groups."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.document import Group


def write_report(groups: Sequence[Group], out: Path) -> Path:
    """Write RESULTS.md below ``out`` and return its path."""
    lines = ["# edgepack beside its peers", ""]
    for group in groups:
        lines += [f"## {group.title}, {group.precision}, {group.threads} threads", ""]
        lines += [f"- {entry.title}: {entry.status} {entry.reason or ''}" for entry in group.entries.values()]
    path = out / "RESULTS.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
