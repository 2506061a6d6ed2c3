"""Building blocks of the HTML report: sections, tables, figures, labels."""

from collections.abc import Callable, Iterable, Sequence

from edgepack.pipeline.trace import Placement
from edgepack.reporting import format as fmt
from edgepack.reporting.figures import ShownFigure
from edgepack.reporting.markup import Markup, el

EMULATED_PILL = el("span", "emulated", cls="pill emulated")


def section(title: str, note: str | None, *children: object) -> Markup:
    """A section with its heading and an explanatory note."""
    return el("section", el("h2", title), el("p", note, cls="note") if note else None, *children)


def grid(*cards: object) -> Markup:
    """Cards, side by side if there is space."""
    return el("div", *cards, cls="grid")


def table(
    head: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[int] = (), cls: str = ""
) -> Markup:
    """A table; ``numbers`` are the columns aligned to the right. Cells may be ``td`` elements already."""
    columns = [
        el("th", name, cls="num" if index in numbers else None, scope="col")
        for index, name in enumerate(head)
    ]
    lines = []
    for row in rows:
        cells = [
            value
            if isinstance(value, Markup) and value.startswith("<td")
            else el("td", value, cls="num" if index in numbers else None)
            for index, value in enumerate(row)
        ]
        lines.append(el("tr", *cells))
    body = el("table", el("thead", el("tr", *columns)), el("tbody", *lines), cls=cls or None)
    return el("div", body, cls="scroll")


def notes(*lines: object) -> Markup | None:
    """Notes in small print, one per line; None if there are none."""
    return el("ul", *(el("li", line) for line in lines), cls="notes") if lines else None


def legend(*names: str) -> Markup:
    """The colours used below, by name."""
    return el("p", *(el("span", name, cls=name) for name in names), cls="legend")


def exact(shown: ShownFigure) -> Markup:
    """A figure with its exact value in an attribute; a dash shows the reason on hover."""
    if shown.value is None:
        return el("span", shown.text, title=shown.why)
    return el("data", shown.text, value=repr(shown.value), cls="emulated" if shown.emulated else None)


def figure(value: float | None, show: Callable[[float], str]) -> Markup:
    """A figure outside the before/after table."""
    return exact(
        ShownFigure(fmt.DASH, None, why="not measured") if value is None else ShownFigure(show(value), value)
    )


def card_title(at: Placement) -> Markup:
    """A card's heading: target, device, and whether it is emulated."""
    named = el("span", f" on {at.device}", cls="soft") if at.device else None
    return el("h3", at.target, named, " ", EMULATED_PILL if at.emulated else None)
