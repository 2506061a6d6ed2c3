"""Write the results as a page with charts, and as a table for the terminal."""

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from benchmarks.kit.documents import fill_template, markdown, plain, write_text
from benchmarks.kit.statistics import median_and_range
from benchmarks.tuning.charts import charts
from benchmarks.tuning.log import PHASES

_WORDS = Path(__file__).with_name("page.md")


def rows(document: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Return the head, then one row per figure."""
    runs = document["runs"]
    yield ("median (minimum to maximum)", *document["sides"].values())

    def row(name: str, *path: str, form: str = "{:.1f}") -> tuple[str, ...]:
        values_by_side = ([reduce(getitem, path, run) for run in runs[side]] for side in document["sides"])
        return (name, *(median_and_range(values, form) for values in values_by_side))

    yield row("seconds", "seconds", form="{:.0f}")
    yield row("trials", "tried", form="{:.0f}")
    yield row("failed trials", "failed", form="{:.0f}")
    yield row("recorded at the end", "recorded", form="{:.0f}")
    yield row("trials per minute", "trials_per_minute")
    yield row("first result after, s", "first_result_s", form="{:.0f}")
    yield row("predicted untuned, ms", "untuned_ms", form="{:.3g}")
    yield row("predicted, ms", "predicted_ms", form="{:.3g}")
    yield row("built untuned, ms", "built_untuned_ms", form="{:.3g}")
    yield row("built, ms", "built_ms", form="{:.3g}")
    for phase in PHASES:
        yield row(f"{phase}, busy s", "busy_s", phase)


def notes(document: dict[str, Any]) -> list[str]:
    """Return the runs' notes on failures, without duplicates."""
    return list(
        dict.fromkeys(
            f"{title}: {note}"
            for side, title in document["sides"].items()
            for run in document["runs"][side]
            for note in run["notes"]
        )
    )


def text(document: dict[str, Any]) -> str:
    return "\n".join([headline(document), "", plain(list(rows(document))), *notes(document)])


def headline(document: dict[str, Any]) -> str:
    """Describe what was tuned, in a sentence."""
    count = max(len(runs) for runs in document["runs"].values())
    limit = f", at most {document['trials']} trials" if document["trials"] else ""
    return (
        f"{document['net']} for target {document['target']}: {document['minutes']:g} minutes{limit} per run, "
        f"{count} {'run' if count == 1 else 'runs'} of each tuner in turns, imports included."
    )


def write(document: dict[str, Any], out: Path) -> None:
    drawn = charts(document)
    for name, markup in drawn.items():
        write_text(out / name, markup + "\n")
    write_text(out / "tuning.md", page(document, list(drawn)))


def page(document: dict[str, Any], drawn: Sequence[str]) -> str:
    """Return the page as Markdown; ``drawn`` are the names of the charts next to it."""
    head, *rest = rows(document)
    return fill_template(
        _WORDS,
        headline=headline(document),
        table=markdown(head, rest, tight=True),
        charts="\n\n".join(f"![{name.removesuffix('.svg')}]({name})" for name in drawn),
        notes="\n".join(f"- {note}" for note in notes(document)),
    )
