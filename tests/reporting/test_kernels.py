"""Kernels in reports: the section, side by side for baseline and release, and the words that the terminal shares."""

import io
import xml.etree.ElementTree as ET

import profiles
import samples

from edgepack.reporting.html import to_html
from edgepack.reporting.markdown import to_markdown
from edgepack.reporting.profile import computes, rest
from edgepack.reporting.terminal import print_profile

REASON = "TVM's virtual machine executes the model"


def report():
    builder = samples.new_builder()
    fast = profiles.profile(profiles.raw(2000, 4000, 2000))
    builder.add_row("x86-64-v3", "baseline", device="pi", profile=profiles.profile())
    builder.add_row("x86-64-v3", "release", device="pi", profile=fast)
    builder.add_row("jetson-orin", "release", device="jet")
    builder.add_missing("jetson-orin", "release", REASON, "profile", device="jet")
    return builder.build()


def cards():
    page = ET.fromstring(to_html(report()).removeprefix("<!doctype html>\n"))  # noqa: S314 - our own page
    (section,) = (each for each in page.iter("section") if each.find("h2").text == "Kernels")
    return section.find("div")


def test_baseline_and_release_are_side_by_side_with_one_scale():
    before, after, _ = cards()
    bars = [[float(rect.get("width")) for rect in card.find("svg").iter("rect")] for card in (before, after)]
    assert len(bars[0]) == len(bars[1]) == 2
    assert bars[1] == [width / 2 for width in bars[0]]
    labels = [text.text for text in before.find("svg").iter("text")]
    assert "stem.0 (Conv, Relu), stem.1 (Conv)" in labels
    assert len(before.find("details").findall(".//tbody/tr")) == 2


def test_what_cannot_be_profiled_says_why():
    *_, card = cards()
    assert card.find("p").text == REASON
    assert REASON in to_markdown(report()).replace("\\", "")


def test_a_report_without_profiles_has_no_section():
    assert "Kernels</h2>" not in to_html(samples.good())
    assert "## Kernels" not in to_markdown(samples.good())


def test_the_markdown_table_has_every_kernel():
    page = to_markdown(report())
    assert "## Kernels" in page
    assert page.count("| conv |") == 2
    assert "50" in page


def test_the_terminal_prints_aligned_text():
    out = io.StringIO()
    print_profile(profiles.profile(), out)
    head, first, second, *lines = out.getvalue().splitlines()
    assert head.index("GMAC/s") + len("GMAC/s") == first.index("25.0") + len("25.0")
    assert "50\N{NO-BREAK SPACE}% compute" in first
    assert "fallback" in second
    assert "not known" in second
    assert any("overhead of profiling +2.00 %" in line for line in lines)


def test_an_emulated_board_is_labelled():
    out = io.StringIO()
    print_profile(profiles.profile(emulated=True), out)
    assert "emulated" in out.getvalue()
    assert "%\N{NO-BREAK SPACE}compute" not in out.getvalue()


def test_long_lists_are_counted():
    nodes = profiles.LISTED.calls[0].nodes
    many = [node.model_copy(update={"module": f"m{n}"}) for n in range(5) for node in nodes[:1]]
    assert computes(many) == "m0 (Conv), m1 (Conv), m2 (Conv), 2 more"
    assert computes(()) == "not known"
    assert rest(profiles.profile(), 2) is None
    assert rest(profiles.profile(), 1).startswith("1 more kernels: 0.008")
