"""Write docs/compression.md and its chart from the results."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.compression.cells import (
    CELLS,
    CLAIMS,
    CURVE_NETS,
    CURVES,
    SMALLEST,
    SOURCE,
    STUDENT,
    STUDENT_ALONE,
    STUDENT_OF_SECOND,
    STUDENT_OF_TWO,
    Claim,
    curve,
    of_claim,
)
from benchmarks.compression.charts import size_chart
from benchmarks.compression.compare import Compared, Difference, compare, difference
from benchmarks.compression.nets import NETS
from benchmarks.compression.results import Results
from benchmarks.kit import places
from benchmarks.kit.documents import fill_template, markdown, write_text

_WORDS = Path(__file__).with_name("page.md")
_LOWEST = 80  # percent, in the chart
_NOTHING = "Not measured yet."
_TEST_SAMPLES = 10_000  # of Fashion-MNIST


def write(results: Results, out: Path) -> None:
    """Write the charts beside the results, and the page to docs/, or beside results that are elsewhere."""
    committed = out == places.RESULTS / "results" / "compression"
    text, charts = page(results, "../benchmarks/results/compression/" if committed else "")
    for name, chart in charts.items():
        write_text(out / name, chart)
    write_text(places.ROOT / "docs" / "compression.md" if committed else out / "compression.md", text)


def page(results: Results, folder: str = "") -> tuple[str, dict[str, str]]:
    """Return the page, and the charts by file name; ``folder`` is theirs, from the page."""
    drawn = {net: chart for net in CURVE_NETS if (chart := _chart(results, net))}
    shown = (f"![{NETS[net].title}: size against accuracy]({folder}{_chart_name(net)})" for net in drawn)
    text = fill_template(
        _WORDS,
        sources=_sources(results),
        claims=_claims(results),
        students=_students(results),
        robustness=_robustness(results),
        charts="\n\n".join(shown),
        cells="\n\n".join(_cells(results)),
    )
    return text, {_chart_name(net): chart for net, chart in drawn.items()}


def _chart_name(net: str) -> str:
    return f"compression-{net}.svg"


def summary(figures: Mapping[str, Any]) -> str:
    """One line about a result, for the terminal."""
    if "error" in figures:
        return str(figures["error"])
    return f"{figures['score']:.2%}, {figures['weights']:,} bytes of weights, {figures['seconds']:.0f} s"


def over_seeds(values: Sequence[float], form: str) -> str:
    """The mean of all seeds, and their range."""
    if not values:
        return "-"
    middle = form.format(mean(values))
    return (
        middle if len(values) == 1 else f"{middle} ({form.format(min(values))} to {form.format(max(values))})"
    )


def _sources(results: Results) -> str:
    rows = []
    for net, cells in results.items():
        if found := cells.get(SOURCE):
            first = found[0]
            macs = "-" if first["macs"] is None else f"{first['macs'] / 1e6:.2f} million"
            accuracy = over_seeds([100 * each["score"] for each in found], "{:.2f}")
            rows.append(
                (
                    NETS[net].title,
                    accuracy,
                    f"{first['parameters']:,}",
                    macs,
                    f"{first['raw']:,}",
                    str(len(found)),
                )
            )
    return markdown(("network", "accuracy, %", "parameters", "MACs", "bytes of weights", "seeds"), rows)


def _claims(results: Results) -> str:
    rows = [row for claim in CLAIMS for row in _claim(claim, results)]
    head = ("what", "network", "lost, pp", "must", "aim", "times smaller", "must", "aim", "MACs left", "met")
    return markdown(head, rows, 2) if rows else _NOTHING


def _claim(claim: Claim, results: Results) -> Iterator[tuple[str, ...]]:
    for cell in of_claim(claim):
        compared = compare(results.get(cell.net, {}), cell.name)
        if compared is None:
            continue
        limits = [f"{value:g}" for value in claim.drop]
        sizes = ["", ""] if claim.smaller is None else [f"{value:g}" for value in claim.smaller]
        yield (
            claim.text,
            NETS[cell.net].title.partition(",")[0],
            over_seeds(compared.drop, "{:.2f}"),
            *limits,
            over_seeds(compared.smaller, "{:.3g}"),
            *sizes,
            "" if claim.macs is None else over_seeds([100 * each for each in compared.macs], "{:.0f} %"),
            met(claim, compared),
        )


def met(claim: Claim, compared: Compared) -> str:
    """Whether the mean over the seeds reaches the aim, what it must, or not even that."""
    for number, word in ((1, "aim"), (0, "must")):
        small = claim.smaller is None or mean(compared.smaller) >= claim.smaller[number]
        few = claim.macs is None or mean(compared.macs) <= claim.macs
        if mean(compared.drop) <= claim.drop[number] and small and few:
            return word
    return "no"


def _students(results: Results) -> str:
    cells = results.get("vgg", {})
    names = (STUDENT_ALONE, STUDENT, STUDENT_OF_SECOND, STUDENT_OF_TWO)
    rows = []
    for name in names:
        if compared := compare(cells, name):
            accuracy = over_seeds([100 * each for each in compared.score], "{:.2f}")
            rows.append(
                (name, accuracy, over_seeds(compared.drop, "{:.2f}"), over_seeds(compared.smaller, "{:.3g}"))
            )
    table = (
        markdown(("student", "accuracy, %", "below its model, pp", "times smaller"), rows)
        if rows
        else _NOTHING
    )
    said = []
    if found := difference(cells.get(STUDENT, ()), cells.get(STUDENT_ALONE, ()), _TEST_SAMPLES):
        said.append(f"Taught by its model, it is {_difference(found)} than alone.")
    singles = [name for name in (STUDENT, STUDENT_OF_SECOND) if cells.get(name)]
    if singles:
        best = max(singles, key=lambda name: mean(each["score"] for each in cells[name]))
        if found := difference(cells.get(STUDENT_OF_TWO, ()), cells[best], _TEST_SAMPLES):
            said.append(f"Taught by both, it is {_difference(found)} than as the {best}.")
    return "\n\n".join([table, *said])


def _difference(found: Difference) -> str:
    word = "better" if found.value >= 0 else "worse"
    sign = 1 if found.value >= 0 else -1
    ends = sorted((sign * found.low, sign * found.high))
    decided = "" if found.decided else ", which may be chance"
    return f"{abs(found.value):.2f} pp {word} (95 % interval {ends[0]:.2f} to {ends[1]:.2f}, {found.seeds} seed{'s' * (found.seeds > 1)}{decided})"


def _robustness(results: Results) -> str:
    rows = []
    for cell in CELLS:
        if cell.group in {SOURCE, *CURVES}:
            continue
        compared = compare(results.get(cell.net, {}), cell.name)
        if compared is not None and compared.robust:
            rows.append(
                (
                    NETS[cell.net].title.partition(",")[0],
                    cell.name,
                    over_seeds([100 * each for each in compared.robust], "{:.2f}"),
                    over_seeds(compared.robust_drop, "{:.2f}"),
                    over_seeds(compared.extra, "{:.2f}"),
                    over_seeds(compared.fgsm_drop, "{:.2f}"),
                )
            )
    head = (
        "network",
        "compressed by",
        "under corruption, %",
        "lost there, pp",
        "more than without, pp",
        "lost under FGSM, pp",
    )
    return markdown(head, rows, 2) if rows else _NOTHING


def _cells(results: Results) -> Iterator[str]:
    head = (
        "compressed by",
        "accuracy, %",
        "lost, pp",
        "bytes of weights",
        "times smaller",
        "non-zeros left",
        "MACs left",
        "seeds",
    )
    for net, cells in results.items():
        rows = []
        for cell in (cell for cell in CELLS if cell.net == net and cell.group != SOURCE):
            compared = compare(cells, cell.name)
            if compared is not None:
                rows.append(
                    (
                        cell.name,
                        over_seeds([100 * each for each in compared.score], "{:.2f}"),
                        over_seeds(compared.drop, "{:.2f}"),
                        over_seeds(compared.weights, "{:,.0f}"),
                        over_seeds(compared.smaller, "{:.3g}"),
                        over_seeds([100 * each for each in compared.nonzeros], "{:.0f} %"),
                        over_seeds([100 * each for each in compared.macs], "{:.0f} %"),
                        str(len(compared.score)),
                    )
                )
        if rows:
            yield f"### {NETS[net].title}\n\n{markdown(head, rows)}"


def _chart(results: Results, net: str) -> str | None:
    cells = results.get(net, {})
    curves = {}
    for method in CURVES:
        found = [compare(cells, cell.name) for cell in curve(net, method)]
        points = [(mean(each.smaller), 100 * mean(each.score)) for each in found if each is not None]
        if points:
            curves[method] = points
    deep = compare(cells, SMALLEST)
    if not curves:
        return None
    if deep is not None:
        curves["prune, distill, cluster"] = [(mean(deep.smaller), 100 * mean(deep.score))]
    before = 100 * mean(each["score"] for each in cells[SOURCE])
    return size_chart(f"{NETS[net].title}: size against accuracy", curves, before, _LOWEST)
