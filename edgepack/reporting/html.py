"""The report as one self-contained HTML file: no script, no request, nothing but this page."""

from importlib.resources import files

from edgepack.pipeline.trace import Placement
from edgepack.reporting import format as fmt
from edgepack.reporting import sections
from edgepack.reporting.document import Report
from edgepack.reporting.elements import card_title, exact, grid, section
from edgepack.reporting.figures import cell, change, emulated_targets, figures_of, headline, measured
from edgepack.reporting.markup import Markup, el, join
from edgepack.spec.candidate import BASELINE, RELEASE

# Nothing may be fetched: what a browser enforces is also what we promise.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"

_TILES = ("Bundle", "Accuracy (board)", "Latency p50")


def to_html(report: Report) -> str:
    """The whole page. The same report gives the same bytes."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("title", f"{report.recipe.name} {report.recipe.version}: edgepack report"),
        el("style", Markup(files("edgepack.reporting").joinpath("report.css").read_text("utf-8"))),
    )
    body = (
        _header(report),
        *(part(report) for part in sections.SECTIONS),
        _provenance(report),
        el(
            "footer",
            "Made by edgepack. Every figure is in report.json beside this page, raw samples included.",
        ),
    )
    page = el("html", head, el("body", el("main", *body)), lang="en")
    return f"<!doctype html>\n{page}\n"


def _header(report: Report) -> Markup:
    gates = {
        status: sum(gate.status == status for gate in report.gates)
        for status in ("passed", "failed", "skipped")
    }
    counted = ", ".join(f"{number} {status}" for status, number in gates.items() if number)
    emulated = emulated_targets(report)
    summary = headline(report)
    facts = (("run", report.run_id), ("started", report.started), ("took", fmt.duration(report.seconds)))
    return el(
        "header",
        el("div", "edgepack report", cls="kicker"),
        el("h1", report.recipe.name, " ", el("span", report.recipe.version, cls="version")),
        el(
            "p",
            f"{summary[0].upper()}{summary[1:]}. ",
            f"Gates: {counted}. " if counted else None,
            f"Measured under emulation: {', '.join(emulated)}. " if emulated else None,
            el("span", f"exit code {report.exit_code}", cls=f"pill {'bad' if report.exit_code else 'good'}"),
            cls="lead",
        ),
        el("p", *(el("span", f"{name} ", el("b", value)) for name, value in facts), cls="meta"),
        grid(*(_tiles(report, at) for at in measured(report))) if report.rows else None,
    )


def _tiles(report: Report, at: Placement) -> Markup:
    tiles = []
    for figure in (figure for figure in figures_of(report) if figure.label in _TILES):
        before = cell(report, figure, at, BASELINE)
        after = cell(report, figure, at, RELEASE)
        tiles.append(
            el(
                "div",
                el("span", figure.label, cls="name"),
                el("span", exact(after), cls="now"),
                el("span", f"was {before.text}", cls="was"),
                el("span", change(figure, before, after), cls="was"),
                cls="tile",
            )
        )
    return el("div", card_title(at), el("div", *tiles, cls="tiles"), cls="card")


def _provenance(report: Report) -> Markup:
    host, recipe = report.host, report.recipe
    cpu = f", {host.cpu}" if host.cpu else ""
    lines: list[tuple[str, object]] = [
        ("Recipe", join(recipe.path or recipe.name, " ", el("code", recipe.digest))),
        *(
            (f"Release, {target} {candidate}", el("code", digest))
            for target, candidate, digest in report.releases
        ),
        ("Build host", f"{host.system} {host.machine}{cpu}, {host.cores} cores, Python {host.python}"),
        ("Tools", ", ".join(f"{name} {version}" for name, version in sorted(report.tools.items()))),
    ]
    listed = (join(el("dt", name), el("dd", value)) for name, value in lines)
    return section("Provenance", None, el("dl", *listed))
