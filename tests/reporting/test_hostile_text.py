"""Text in a report comes from models, boards and bundles: in no format may any of it be obeyed."""

import html.parser
import io
import json
import re
from functools import cache

import pytest
import samples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pydantic import ValidationError

from edgepack.reporting.document import Report
from edgepack.reporting.html import to_html
from edgepack.reporting.markdown import to_markdown
from edgepack.reporting.terminal import print_report

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
SGR = re.compile(r"\x1b\[[0-9;]*m")  # the colours that a terminal is given by rich
ATTACKS = (
    "\x1b]0;title\x07\x1b[2J",
    "\x9b31m",
    "user\u202egnp.exe",
    "[red]x[/red] [link=https://evil.example]y[/link]",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "</td></tr></table><h1>x</h1>",
    '" onmouseover="alert(1)',
    "[a](https://evil.example) https://evil.example www.evil.example <https://evil.example>",
    "![x](https://evil.example/x.png)",
    "`` ` ``` | a | b |",
    "# x\n\n- y\n\n| a |\n| - |",
    "$\\input{x}$ &lt; &#60;",
    "\r\nerror: forged",
)
hostile = st.one_of(st.text(max_size=30), st.text(st.characters(categories=["Cc", "Cf"])))


def leaves(value, path=()):
    """The paths of all strings in a JSON value."""
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from leaves(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from leaves(each, (*path, index))


def changed(document, path, text):
    if not path:
        return text
    copy = document.copy()
    copy[path[0]] = changed(document[path[0]], path[1:], text)
    return copy


def free_leaves(report):
    """The strings that may hold any text: not those of a fixed set, nor digests."""
    document = report.model_dump(mode="json")
    free = []
    for path in leaves(document):
        try:
            Report.model_validate_json(json.dumps(changed(document, path, "\x1b<>")))
        except ValidationError:
            continue
        free.append(path)
    return document, free


DOCUMENTS = {name: free_leaves(getattr(samples, name)()) for name in ("good", "bad")}
# Text that joins places with their rows: changed everywhere alike.
JOINING = ("target", "device", "candidate", "stage", "name")


def filled(name, text):
    """A report with ``text`` in all of its strings; equal names of places stay equal, different ones different."""
    document, free = DOCUMENTS[name]
    for path in free:
        before = document
        for part in path:
            before = before[part]
        # A number keeps different names different, and no text empty.
        document = changed(document, path, f"{text}{len(before)}" if path[-1] in JOINING else f"{text}.")
    return Report.model_validate_json(json.dumps(document))


class Tags(html.parser.HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, tuple(sorted(name for name, _ in attrs))))

    def handle_endtag(self, tag):
        self.found.append(f"/{tag}")


def markdown_structure(text):
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    found = []
    for token in parser.parse(text):
        found.append(token.type)
        found += [child.type for child in token.children or () if child.type not in {"text", "text_special"}]
    return found


class Terminal(io.StringIO):
    def isatty(self):
        return True


def printed(report, file):
    print_report(report, file)
    return file.getvalue()


@cache
def harmless(name):
    """What the formats of a report with harmless text consist of."""
    report = filled(name, "x")
    lines = printed(report, io.StringIO()).splitlines()
    return Tags(to_html(report)).found, markdown_structure(to_markdown(report)), len(lines)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name in DOCUMENTS for text in ATTACKS])
def test_no_format_obeys_an_attack(name, text, monkeypatch):
    _check(name, text, monkeypatch)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=hostile)
def test_no_format_obeys_any_text(text, monkeypatch):
    _check("bad", text, monkeypatch)


def _check(name, text, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("TERM", "xterm-256color")
    report, tags, structure, lines = filled(name, text), *harmless(name)
    page, markdown = to_html(report), to_markdown(report)
    plain, coloured = printed(report, io.StringIO()), printed(report, Terminal())
    for shown in (page, markdown, plain, SGR.sub("", coloured)):
        assert not OBEYED.search(shown), ascii(OBEYED.search(shown)[0])
    assert Tags(page).found == tags
    assert markdown_structure(markdown) == structure
    assert len(plain.splitlines()) == lines
    assert "]8;" not in coloured  # a link of rich's markup
    assert not OBEYED.search(report.to_bytes().decode())
    assert json.loads(report.to_bytes()) == report.model_dump(mode="json")


def test_a_web_address_is_no_link_by_itself():
    """GitHub makes links of bare addresses."""
    markdown = to_markdown(filled("bad", "https://evil.example www.evil.example"))
    outside_code = re.sub("`[^`]*`", "", markdown)
    assert "https://" not in outside_code
    assert "www.evil" not in outside_code
