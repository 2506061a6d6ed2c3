"""The report as HTML, Markdown and text: valid markup, all figures, no external resources, no injection."""

import io
import json
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
import samples
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.base.text import visible
from edgepack.measuring.measurement import Measurement
from edgepack.measuring.stats import BoardState
from edgepack.reporting import charts
from edgepack.reporting import format as fmt
from edgepack.reporting.document import CurvePoint
from edgepack.reporting.figures import FIGURES, NOT_VALID, cell
from edgepack.reporting.html import to_html
from edgepack.reporting.markdown import escape, to_markdown
from edgepack.reporting.markup import el
from edgepack.reporting.terminal import print_report
from edgepack.spec import Score

REPORTS = {"good": samples.good(), "bad": samples.bad(), "empty": samples.empty()}
PAGES = {name: to_html(report) for name, report in REPORTS.items()}
FASTER = f"3.93{fmt.TIMES} faster"
VOID = {"meta", "br", "hr", "rect", "line", "circle", "path"}


def parse(markup: str) -> ET.Element:
    return ET.fromstring(markup)  # noqa: S314 - our own pages


def tree(page: str) -> ET.Element:
    """The page as XML, which is stricter than HTML."""
    return parse(page.removeprefix("<!doctype html>\n"))


def words(element: ET.Element) -> str:
    return " ".join("".join(element.itertext()).split())


class Balanced(HTMLParser):
    """Raises if the closed tag is not the open one."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in VOID

    def handle_endtag(self, tag):
        assert tag == self.open.pop()


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_well_formed(name):
    parser = Balanced()
    parser.feed(PAGES[name])
    parser.close()
    assert parser.open == []
    assert tree(PAGES[name]).tag == "html"


@pytest.mark.parametrize("name", PAGES)
def test_the_page_requests_no_external_resources(name):
    page = PAGES[name]
    assert not re.search(r"<(script|link|img|iframe|object|embed|image|use|base|form)\b", page)
    assert not re.search(
        r"\b(src|href|srcset|action|on[a-z]+)=\"", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    )
    assert not re.search(r"url\(|@import|expression\(", page)
    assert "default-src &#x27;none&#x27;" in page


@pytest.mark.parametrize("name", PAGES)
def test_the_same_report_gives_the_same_bytes(name):
    assert to_html(REPORTS[name]) == PAGES[name]
    assert to_markdown(REPORTS[name]) == to_markdown(REPORTS[name])


def numbers(value: object) -> list[float]:
    if isinstance(value, dict):
        return [n for key, item in value.items() if key != "samples_ns" for n in numbers(item)]
    if isinstance(value, list):
        return [n for item in value for n in numbers(item)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_every_figure_of_the_report_is_on_the_page_exactly():
    report = json.loads(REPORTS["good"].to_bytes())
    shown = {float(element.get("value", "")) for element in tree(PAGES["good"]).iter("data")}
    wanted = []
    for row in report["rows"]:
        measured = row.pop("measurement")
        wanted += numbers(row) + numbers({k: measured["latency"][k] for k in ("p50", "p90", "p99")})
        wanted += [measured[k] for k in ("load_ms", "first_ms", "peak_rss_kib")]
    wanted += (
        numbers(report["compression"]) + numbers(report["gates"]) + numbers(report["tuning"][0]["kernels"])
    )
    wanted += [
        t[k]
        for t in report["tuning"]
        for k in ("trials", "seconds", "tuned_share", "untuned_ms", "predicted_ms", "noise_ms")
    ]
    wanted += [stage["seconds"] for stage in report["stages"]]
    assert len(wanted) > 100
    assert set(wanted) - shown == set()


def test_every_section_is_present():
    titles = [words(h2) for h2 in tree(PAGES["good"]).iter("h2")]
    assert titles == [
        "Before and after", "The model, stage by stage", "Latency", "Accuracy", "Tuning", "Board state", "Gates",
        "Stages", "Provenance",
    ]  # fmt: skip
    assert [words(h2) for h2 in tree(PAGES["empty"]).iter("h2")] == ["Provenance"]
    assert "Problems" in [words(h2) for h2 in tree(PAGES["bad"]).iter("h2")]


def cards(page: str, target: str) -> list[ET.Element]:
    found = [c for c in tree(page).iter("div") if c.get("class") == "card"]
    return [
        card for card in found if (title := card.find("h3")) is not None and words(title).startswith(target)
    ]


def test_emulated_latency_is_labelled_and_never_compared():
    emulated, real = cards(PAGES["good"], "rpi4"), cards(PAGES["good"], "x86-64-v3")
    assert len(emulated) == len(real) == 5
    for card in emulated:
        assert "emulated" in words(card)
        assert not re.search(r"faster|slower|whiskers", words(card))
    assert any(FASTER in words(card) for card in real)
    table = next(card for card in emulated if card.find(".//table/tbody") is not None)
    lines = {words(line[0]): words(line[3]) for line in table.iter("tr")}
    of_board = {figure.label for figure in FIGURES if figure.of_board}
    assert {label for label, change in lines.items() if change == "emulated"} == of_board


@pytest.mark.parametrize("render", [to_markdown, lambda report: printed(report, io.StringIO())])
def test_emulated_latency_is_not_compared_in_text_either(render):
    shown = render(REPORTS["good"])
    emulated = shown[shown.index("rpi4 on") :]
    assert "faster" not in emulated
    assert len(re.findall(r"Latency p\d\d.*emulated", emulated)) == 3
    assert FASTER in shown[: shown.index("rpi4 on")]


def test_a_missing_figure_is_a_dash_with_its_reason_and_never_0():
    assert "release: Accuracy (torch fp32): the int8 model exists as ONNX only" in words(tree(PAGES["good"]))
    lines = {words(row[0]): words(row[2]) for row in cards(PAGES["bad"], "x86-64-v3")[1].iter("tr")}
    assert lines["Bundle"] == "—"
    dead = cards(PAGES["bad"], "rpi4")[0]
    assert "— all figures: " in words(dead)
    assert dead.find(".//table") is None


def test_text_from_outside_is_shown_and_never_obeyed():
    hostile = samples.HOSTILE.replace("\x00", r"\x00").replace("\x1b", r"\x1b")
    assert hostile in words(tree(PAGES["bad"]))
    assert PAGES["bad"].count("</style>") == 1
    plain = printed(REPORTS["bad"])
    assert "\x1b" not in plain
    assert "\x00" not in plain
    assert "<script>" not in to_markdown(REPORTS["bad"])


@given(
    st.text(
        st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"], exclude_characters="\ufffe\uffff")
    )
)
def test_any_text_survives_as_text(value):
    shown = parse(el("p", value, title=value))
    assert ("".join(shown.itertext()), shown.get("title")) == (value, value)


@given(st.text())
def test_no_text_breaks_the_markup(value):
    assert "".join(parse(el("p", value, title=value)).itertext()) == visible(value)


@given(st.text())
def test_markdown_keeps_any_text_on_its_line_and_in_its_cell(value):
    shown = escape(value)
    assert len(shown.splitlines()) <= 1
    assert not re.search(r"(?<!\\)(?:\\\\)*[|<`*]", shown)


@pytest.mark.parametrize("name", REPORTS)
def test_markdown_tables_have_as_many_cells_as_titles(name):
    blocks = [b.splitlines() for b in to_markdown(REPORTS[name]).split("\n\n") if b.startswith("| ")]
    assert blocks or name == "empty"
    for block in blocks:
        cells = [len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in block]
        assert len(set(cells)) == 1, block[0]


def charts_of(page: str) -> list[ET.Element]:
    return [svg for svg in tree(page).iter("svg") if svg.get("viewBox")]


def sound(svg: ET.Element) -> None:
    """Every mark has finite coordinates inside the picture, and the picture has a label."""
    _, _, width, height = map(float, svg.get("viewBox", "").split())
    assert svg.find("title") is not None
    for element in svg.iter():
        at = {
            key: float(value)
            for key, value in element.attrib.items()
            if re.fullmatch(r"x|y|[xy][12]|c[xy]|width|height", key)
        }
        assert all(map(math.isfinite, at.values()))
        assert all(-1 <= value <= max(width, height) + 1 for value in at.values()), element.attrib
        if element.tag == "text":
            # The widest fonts of the stack take about 8 units a character.
            length = 8 * len(element.text or "")
            start = at["x"] - {"end": length, "middle": length / 2}.get(element.get("text-anchor", ""), 0)
            assert start >= -4, element.text
            assert start + length <= width + 4, element.text
        if element.tag == "rect":
            assert at["x"] + at["width"] <= width + 1
            assert at["y"] + at["height"] <= height + 1
    assert "nan" not in ET.tostring(svg, encoding="unicode")


@pytest.mark.parametrize("name", PAGES)
def test_charts_stay_inside_their_pictures(name):
    found = charts_of(PAGES[name])
    assert len(found) == {"good": 18, "bad": 3, "empty": 0}[name]
    for svg in found:
        sound(svg)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 10), st.integers(0, 10**13)), min_size=1, max_size=80))
def test_any_samples_can_be_drawn(values):
    measured = Measurement.of(
        samples.raw(values), device="d", emulated=False, before=BoardState(), after=BoardState()
    )
    histogram = parse(charts.histogram("h", "release", measured))
    sound(histogram)
    sound(parse(charts.comparison("c", [("baseline", measured), ("release", measured)])))
    note = words(histogram)
    assert f"{len(values)} samples" in note


@given(st.lists(st.floats(0, 1e9).map(lambda v: round(v, 6)), min_size=1, max_size=30), st.floats(0, 1))
def test_any_curve_bar_and_share_can_be_drawn(values, share):
    points = [CurvePoint(seconds=i, trials=i * 8, predicted_ms=v) for i, v in enumerate(values)]
    sound(parse(charts.curve("c", points)))
    sound(parse(charts.bars("b", [("x" * 50, value, "1") for value in values] + [("none", None, "—")])))
    scores = [Score(metric="accuracy", value=value, low=value / 2, high=1.0) for value in (share, 1.0)]
    sound(parse(charts.dots("d", [("x", "release", scores[0]), ("y", "baseline", scores[1])])))
    errors = [Score(metric="mse", value=value, higher_is_better=False) for value in values]
    sound(parse(charts.dots("d", [("x", "release", error) for error in errors])))
    sound(parse(charts.shares("s", [("k", share, True), ("l", 1 - share, False)])))


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 8))
def test_ticks_are_round_few_and_inside(low, length, most):
    high = low + length
    found = charts.ticks(low, high, most)
    assert len(found) <= most + 1
    slack = 1e-6 * max(abs(low), abs(high), 1)
    assert all(low - slack <= tick <= high + slack for tick in found)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(report, file: io.StringIO | None = None) -> str:
    file = file or io.StringIO()
    print_report(report, file)
    return file.getvalue()


@pytest.mark.parametrize("name", REPORTS)
def test_away_from_a_terminal_the_table_is_plain_text(name, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = printed(REPORTS[name])
    assert "\x1b" not in shown
    assert shown.startswith("digits 0.1.0: ")
    if name == "good":
        figures = [line for line in shown.splitlines() if line.strip().startswith("Latency p50")]
        assert figures[0].split() == ["Latency", "p50", "0.418", "ms", "0.106", "ms", *FASTER.split()]


def test_on_a_terminal_there_are_colours_unless_refused(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = printed(REPORTS["good"], Terminal())
    assert "\x1b[" in shown
    monkeypatch.setenv("NO_COLOR", "1")
    refused = printed(REPORTS["good"], Terminal())
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", refused)
    for page in (shown, refused):
        assert f"0.106{fmt.THIN}ms" in page
        assert FASTER in page
        assert "emulated" in page
    assert "\x1b[31m" not in printed(REPORTS["bad"], Terminal()).replace("\x1b[1;31m", "")


def test_a_methods_metrics_are_in_every_format_of_the_report(monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    report = REPORTS["good"]
    assert json.loads(report.to_bytes())["compression"][1]["metrics"]["macs"] == [4_722_048, 1_180_512]
    assert json.loads(report.to_bytes())["compression"][0]["metrics"] == {}
    text = to_markdown(report)
    assert "### prune\\-channels" in text or "### prune-channels" in text
    assert "- macs: 4,722,048, 1,180,512" in text
    assert "block.5.conv 69, 37; and 3 more" in text  # all of them are in the JSON
    assert "a\\|b \\*c\\*" in text
    lists = [words(item) for item in tree(PAGES["good"]).iter("li")]
    assert "samples: 256" in lists
    assert any(line.startswith("accuracy: before 0.9861; pruned 0.9167") for line in lists)
    assert f"scale: {fmt.DASH}" in lists
    file = io.StringIO()
    print_report(report, file)
    about = "weights in a bundle about"
    pruned, quantized = fmt.size(117_011), fmt.size(31_007)
    assert f"  prune-channels: {about} {pruned}; macs 4,722,048, 1,180,512\n" in file.getvalue()
    assert f"  quantize-static: {about} {quantized}; samples 256; per_channel yes; note" in file.getvalue()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1_234_567, "1,234,567"),
        (0.123456789, "0.123457"),
        (False, "no"),
        ([], "none"),
        ([1, [2.5, "x"]], "1, 2.5, x"),
        ({"a": None, "b": {"c": 1}}, f"a {fmt.DASH}; b c 1"),
        (list(range(9)), "0, 1, 2, 3, 4, 5, and 3 more"),
        ("two\nlines", "two lines"),
        ("x" * 300, "x" * 200 + "\N{HORIZONTAL ELLIPSIS}"),
    ],
)
def test_a_methods_figures_are_plain_text(value, shown):
    assert fmt.metric(value) == shown


def test_a_figure_that_is_not_valid_is_marked_wherever_it_stands():
    report = REPORTS["bad"]
    shown = f"({NOT_VALID})"
    drifting = cell(
        report, next(f for f in FIGURES if f.label == "Latency p50"), report.placements[0], "release"
    )
    assert drifting.text.endswith(shown)
    for page in (to_markdown(report), printed(report), printed(report, Terminal())):
        lines = [line for line in page.splitlines() if "Latency p50" in line]
        assert any(drifting.text in line for line in lines)
    assert f"release, 2 threads {shown}" in words(tree(PAGES["bad"])).replace("threads", "threads ").replace(
        "  ", " "
    )
    (gate,) = (gate for gate in report.gates if gate.name == "p90_ms")
    assert "not valid" in gate.why
