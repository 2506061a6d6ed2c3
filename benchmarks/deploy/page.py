"""Write the results as a page, and as a table for the terminal."""

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.kit.documents import fill_template, markdown, plain, write_text
from benchmarks.kit.statistics import median_and_range

HEAD = ("link", "step", "way", "seconds, median (range)", "sent", "received")
_WORDS = Path(__file__).with_name("page.md")
COUNTED = "Bytes are TCP payload in each direction, including SSH's overhead, without TCP and IP headers."


def rows(document: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """One row per link, step and tool that was measured or failed."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for sample in document["samples"]:
        groups.setdefault((sample["link"], sample["step"], sample["way"]), []).append(sample)
    steps = list(dict.fromkeys(step for _, step, _ in groups))
    for key in sorted(
        groups, key=lambda k: (k[0] != "loopback", steps.index(k[1]), document["ways"].index(k[2]))
    ):
        samples = groups[key]
        failed = [sample["error"] for sample in samples if "error" in sample]
        good = [sample for sample in samples if "error" not in sample]
        if failed:
            yield (*key, f"{len(failed)} of {len(samples)} failed: {failed[0]}", "", "")
        if good:
            seconds = median_and_range([sample["seconds"] for sample in good], "{:.2f}")
            yield (*key, seconds, *(size(good, way) for way in ("sent", "received")))
    for way, why in document["left_out"].items():
        yield ("all", "all", way, f"left out: {why}", "", "")


def size(samples: list[dict[str, Any]], direction: str) -> str:
    """Median number of bytes, in a suitable unit."""
    value = statistics.median(sample[direction] for sample in samples)
    return f"{value / 1e6:.2f} MB" if value >= 1e5 else f"{value / 1e3:.1f} kB"


def headline(document: dict[str, Any]) -> str:
    """Describe what was deployed, in a sentence."""
    change, sizes = document["change"], document["files_bytes"]
    rtt = document["rtt_ms"] and f", the limited link with a round-trip time of {document['rtt_ms']:g} ms"
    return (
        f"{document['net']}: {sizes['first'] / 1e6:.1f} MB in files. The redeploy changes one layer's weights "
        f"({change['tensor']}, {change['bytes'] / 1e3:.0f} kB), which changes {', '.join(change['files'])}"
        f"{rtt or ''}."
    )


def text(document: dict[str, Any]) -> str:
    return "\n".join([headline(document), COUNTED, "", plain([HEAD, *rows(document)], right=len(HEAD))])


def page(document: dict[str, Any]) -> str:
    table = markdown(HEAD, rows(document), right=4, tight=True)
    return fill_template(_WORDS, headline=headline(document), counted=COUNTED, table=table)


def write(document: dict[str, Any], out: Path) -> None:
    write_text(out / "deploy.md", page(document))
