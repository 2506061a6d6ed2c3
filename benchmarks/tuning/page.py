"""The results as a table for the terminal and as Markdown."""

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.tuning.log import PHASES

READ = """\
A trial is a candidate that was tried; the failed ones did not build, crashed or ran out of time. *Predicted* is the
sum over the net's kernels of calls x best candidate, or the fallback's time where that is less, each measured alone;
*built* is the median of whole inferences on one thread of the library made with those records, in turns with
the others'. Phases overlap in edgepack, so their seconds are those in which at least one process was at it; stock's
follow one another, and its search is what MetaSchedule's profiler says, up to the last batch. Stock measures in its
own processes and transfers nothing. It writes a kernel's records when its scheduler comes back to that kernel, the first
time after every kernel has had a batch of 64; until then its measurements count here, and are lost when it is
ended: *built* is from the records. What is left of the run's seconds went into imports, into extracting the kernels and
preparing their search spaces, and into waiting."""


def rows(document: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """The head, then one row a figure."""
    runs = document["runs"]
    yield ("median (least to most)", *document["sides"].values())

    def row(name: str, *path: str, form: str = "{:.1f}") -> tuple[str, ...]:
        return (name, *(cell([_dig(run, path) for run in runs[side]], form) for side in document["sides"]))

    yield row("seconds", "seconds", form="{:.0f}")
    yield row("trials", "tried", form="{:.0f}")
    yield row("of them failed", "failed", form="{:.0f}")
    yield row("on record at the end", "recorded", form="{:.0f}")
    yield row("trials a minute", "trials_per_minute")
    yield row("first result after, s", "first_result_s", form="{:.0f}")
    yield row("predicted untuned, ms", "untuned_ms", form="{:.3g}")
    yield row("predicted, ms", "predicted_ms", form="{:.3g}")
    yield row("built untuned, ms", "built_untuned_ms", form="{:.3g}")
    yield row("built, ms", "built_ms", form="{:.3g}")
    for phase in PHASES:
        yield row(f"{phase}, busy s", "busy_s", phase)


def cell(values: Sequence[float | None], form: str) -> str:
    """Median and range of the runs that have the figure."""
    known = [value for value in values if value is not None]
    if not known:
        return "none"
    middle = form.format(statistics.median(known))
    lacking = f", {len(values) - len(known)} without" if len(known) < len(values) else ""
    if len(values) == 1:
        return middle
    return f"{middle} ({form.format(min(known))} to {form.format(max(known))}{lacking})"


def notes(document: dict[str, Any]) -> list[str]:
    """What the runs said of failures, each once."""
    return list(
        dict.fromkeys(
            f"{title}: {note}"
            for side, title in document["sides"].items()
            for run in document["runs"][side]
            for note in run["notes"]
        )
    )


def text(document: dict[str, Any]) -> str:
    """For the terminal."""
    table = list(rows(document))
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in table
    ]
    return "\n".join([headline(document), "", *lines, *notes(document)])


def headline(document: dict[str, Any]) -> str:
    """What was tuned, in a sentence."""
    count = max(len(runs) for runs in document["runs"].values())
    limit = f", at most {document['trials']} trials" if document["trials"] else ""
    return (
        f"{document['net']} for target {document['target']}: {document['minutes']:g} minutes{limit} a run, "
        f"{count} {'run' if count == 1 else 'runs'} of each tuner in turns, imports within the time."
    )


def markdown(document: dict[str, Any], charts: Sequence[str]) -> str:
    """For docs/performance.md; ``charts`` are the SVG files' names beside it."""
    head, *rest = rows(document)
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rest)]
    lines.insert(1, "|---|" + "---:|" * (len(head) - 1))
    images = [f"![{name.removesuffix('.svg')}]({name})" for name in charts]
    said = [f"- {note}" for note in notes(document)]
    parts = [headline(document), "\n".join(lines), READ, *images, "\n".join(said)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _dig(run: dict[str, Any], path: Sequence[str]) -> float | None:
    value: Any = run
    for key in path:
        value = value[key]
    return value
