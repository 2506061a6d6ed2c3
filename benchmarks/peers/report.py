"""Generate files from the results: a page and charts per kind of CPU, and the lists of the kinds."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.kit.documents import fill_template, write_text
from benchmarks.peers.charts import ratios
from benchmarks.peers.page import losses_table, machine_words, overview, page, part_title, several
from benchmarks.peers.ranking import Ranked, rank
from benchmarks.peers.results import kinds, load_groups

_INDEX = Path(__file__).with_name("index.md")
_DOCS = re.compile("(?<=<!-- peers -->\n).*?(?=<!-- end -->)", re.DOTALL)


def write_report(out: Path, docs: Path | None = None) -> Path:
    """Write the page and charts of each kind of CPU next to its results in ``out``, and RESULTS.md; returns its path.

    ``docs`` is a page whose list of kinds is regenerated, too.
    """
    folder = out / "results" / "peers"
    ranked = {kind: [rank(group) for group in load_groups(folder / kind)] for kind in kinds(folder)}
    for kind, own in ranked.items():
        _write_kind(kind, own, folder / kind)
    path = out / "RESULTS.md"
    write_text(path, _index(ranked))
    if docs is not None:
        listed = "".join(f"\n{_summary(kind, own)}\n" for kind, own in ranked.items())
        write_text(docs, _DOCS.sub(lambda _: f"{listed}\n", docs.read_text(encoding="utf-8")))
    return path


def _write_kind(kind: str, ranked: Sequence[Ranked], folder: Path) -> None:
    for old in folder.glob("*.svg"):
        old.unlink()
    drawn = []
    for precision, threads in sorted({(one.group.precision, one.group.threads) for one in ranked}):
        part = [one for one in ranked if (one.group.precision, one.group.threads) == (precision, threads)]
        title, name = part_title(precision, threads), f"{precision}-{threads}t.svg"
        svg = ratios(title, part)
        if svg is not None:
            write_text(folder / name, svg)
            drawn.append((title, name))
    write_text(folder / "peers.md", page(kind, ranked, drawn))


def _index(ranked: Mapping[str, Sequence[Ranked]]) -> str:
    if not ranked:
        return "# edgepack and its peers\n\nThere are no results yet.\n"
    parts = []
    for kind, own in ranked.items():
        parts.append(f"## {kind}\n\n{_provenance(own)} [All figures](results/peers/{kind}/peers.md).")
        parts.append(overview(own))
    return fill_template(_INDEX, kinds="\n\n".join(parts))


def _summary(kind: str, ranked: Sequence[Ranked]) -> str:
    """Summarise one kind for the documentation: where edgepack is slower on one thread."""
    single = [one for one in ranked if one.group.threads == 1]
    page = f"[all figures](../benchmarks/results/peers/{kind}/peers.md)"
    return f"**{kind}** ({page}). {_provenance(ranked)}\n\n{losses_table(single)}"


def _provenance(ranked: Sequence[Ranked]) -> str:
    """Describe machine, date and number of groups."""
    groups = [one.group for one in ranked]
    machine = max(groups, key=lambda group: group.when).machine
    days = sorted({group.when[:10] for group in groups})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"{machine_words(machine)} {several(len(groups), 'group')}, {when}."
