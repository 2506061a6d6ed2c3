"""The strict YAML reader: data, and problems with their position."""

import json
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from edgepack.config.yaml_document import MAX_BYTES, YamlDocument, read
from edgepack.config.yaml_model import read_model
from edgepack.errors import ConfigError
from edgepack.spec import PATTERNS, Spec


def problems_of(tmp_path: Path, content: str | bytes) -> list[str]:
    """The problems of a file as line:column: message."""
    path = tmp_path / "file.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [f"{p.line}:{p.column}: {p.message}" for p in read(path)[1]]


def document_of(path: Path) -> YamlDocument:
    document, problems = read(path)
    assert problems == []
    return document


def data_of(tmp_path: Path, content: str):
    path = tmp_path / "file.yaml"
    path.write_text(content)
    return document_of(path).data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("off", "off"),
        ("Yes", "Yes"),
        ("true", True),
        ("false", False),
        ("12:30", "12:30"),
        ("010", "010"),
        ("0o17", "0o17"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("2026-01-01", "2026-01-01"),
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("-7", -7),
        ("+7", 7),
        ("0", 0),
        (".inf", ".inf"),
        ("null", None),
        ("~", None),
        ("", None),
        ("=", "="),
        ("<<", "<<"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("|\n  3", "3\n"),
    ],
)
def test_scalars_follow_the_core_schema(tmp_path, text, value):
    read_back = data_of(tmp_path, f"key: {text}\n")["key"]
    assert read_back == value
    assert type(read_back) is type(value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "3:1: key `a` is already set on line 1"),
        ("x:\n  - {k: 1, k: 2}\n", "2:12: key `k` is already set on line 2"),
        (
            "a: !!python/object:os.system x\n",
            "1:4: tag tag:yaml.org,2002:python/object:os.system: tags are not supported",
        ),
        ("a: !env HOME\n", "1:4: tag !env: tags are not supported"),
        ("a: &x 1\n", "1:4: anchor &x: anchors are not supported; repeat the value"),
        ("a: 1\nb: *x\n", "2:4: alias *x: aliases are not supported; write the value out"),
        ("1: x\n", '1:1: a key must be text; quote it: "1"'),
        ("true: x\n", '1:1: a key must be text; quote it: "true"'),
        ("?\n: x\n", "1:2: a value without a key"),
        ("? [a, b]\n: x\n", "1:3: a key must be text, not a list or mapping"),
        ("a: 1\n---\nb: 2\n", "2:1: a second document starts here; only one per file is supported"),
        ("", "1:1: the file is empty"),
        ("# nothing\n\n", "1:1: the file is empty"),
        ("a:\n\tb: 1\n", "2:1: a tab; YAML is indented with spaces"),
        (
            "a: b: c\n",
            "1:5: not valid YAML: a second ': ' on this line, or a key that is indented too far; quote text that contains a colon",
        ),
        (
            "a: [1, 2\nb: 3\n",
            "2:2: not valid YAML: expected ',' or ']', but got ':' (while parsing a flow sequence that starts on line 1)",
        ),
        ("a: 'x\n", "1:4: the quote opened here is never closed"),
        ("a: 1e999\n", "1:4: 1e999 is too large for a floating-point number"),
        (f"a: {'9' * 5000}\n", "1:4: a number of more than 64 bits; quote it if it is text"),
        ('a: "\\ud800"\n', "1:4: text contains half of a surrogate pair, which is not a character"),
        ("ok: 1\na: x\x07y\n", "2:5: character U+0007 is not allowed"),
        (b"ok: 1\na: \xff\n", "2:4: not UTF-8: byte 0xff"),
        ("a: 1\n".encode("utf-16"), "1:1: not UTF-8: byte 0xff"),
        ("[" * 100, "1:34: nested more than 32 levels deep"),
        ("a: " + "[" * 60000, "1:36: nested more than 32 levels deep"),
        (b"#" * (MAX_BYTES + 1), "1:1: larger than 64 KiB: not a valid file of this kind"),
    ],
)
def test_problems_have_their_position(tmp_path, content, expected):
    assert problems_of(tmp_path, content) == [expected]


def test_all_problems_are_reported_together(tmp_path):
    found = problems_of(tmp_path, "a: !t 1\nb: &n 2\nb: 3\n4: x\nc: *n\n")
    assert [f.split(":")[0] for f in found] == ["1", "2", "3", "4", "5"]


def test_byte_order_mark_and_crlf_are_fine(tmp_path):
    path = tmp_path / "file.yaml"
    path.write_bytes("﻿a: 1\r\nb: 2\r\n".encode())
    document = document_of(path)
    assert document.data == {"a": 1, "b": 2}
    assert document.keys["b",] == (2, 1)


def test_unreadable_files_are_problems_not_tracebacks(tmp_path):
    assert read(tmp_path / "absent.yaml")[1][0].message == "cannot be read: no such file"
    assert read(tmp_path)[1][0].message == "cannot be read: is a directory"


def test_an_alias_bomb_is_refused_without_being_expanded(tmp_path):
    bomb = "a: &a [x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20)
    )
    found = problems_of(tmp_path, bomb)
    assert len(found) == 21 + 20 * 9


characters = st.text(st.characters(exclude_categories=["Cs"]))
keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)  # YAML's limit is 1,024 with escapes
json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | characters,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@given(json_like)
@settings(deadline=None, max_examples=150)
def test_any_json_document_loads_back_equal(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "json.yaml"
    path.write_text(json.dumps(value))
    loaded = document_of(path).data
    assert loaded == value
    assert json.dumps(loaded) == json.dumps(value)  # types too: 1 is not 1.0, nor True


def block_yaml(value, indent=0) -> str:
    """A value in block style, scalars as JSON writes them: the YAML a person would write."""
    pad = "  " * indent
    if isinstance(value, dict) and value:
        return "".join(f"\n{pad}{json.dumps(k)}: {block_yaml(v, indent + 1)}" for k, v in value.items())
    if isinstance(value, list) and value:
        return "".join(f"\n{pad}- {block_yaml(v, indent + 1)}" for v in value)
    return json.dumps(value)


@given(st.dictionaries(st.text("abc_-", min_size=1), json_like, max_size=4))
@settings(deadline=None, max_examples=150)
def test_any_block_document_loads_back_equal_with_every_position_inside_the_file(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "block.yaml"
    text = block_yaml(value)
    path.write_text(text)
    document = document_of(path)
    assert document.data == value
    lines = text.split("\n")
    for line, column in [*document.values.values(), *document.keys.values()]:
        assert 1 <= line <= len(lines)
        assert 1 <= column <= len(lines[line - 1]) + 1
    for path_of_key, (line, column) in document.keys.items():
        assert lines[line - 1][column - 1 :].startswith(json.dumps(path_of_key[-1]))


@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=80)
    | st.text("a:- \n\t[]{}&*!|>'\"%@`#?,1", max_size=60)
)
@settings(deadline=None, max_examples=300)
def test_any_text_gives_data_or_problems_never_a_traceback(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode())
    document, problems = read(path)
    assert problems or document.values
    assert all(p.line >= 1 and p.column >= 1 for p in problems)


class Inner(Spec):
    count: int = Field(ge=1)
    kind: Literal["float32", "int8"] = "int8"


class Outer(Spec):
    edgepack: Literal[1]
    title: str
    inner: Inner
    items: tuple[Inner, ...] = Field(default=(), min_length=0)
    pair: tuple[int, int] | None = None
    flag: bool = False
    share: float = Field(default=0.5, gt=0, lt=1)
    table: dict[str, Inner] = Field(default_factory=dict)


def explained(tmp_path: Path, content: str) -> list[str]:
    path = tmp_path / "outer.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_model(path, Outer).result()
    return [f"{p.line}:{p.column}: {p.message}" for p in caught.value.problems]


GOOD = "edgepack: 1\ntitle: t\ninner: {count: 1}\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (GOOD + "flg: true\n", "4:1: unknown key `flg`; did you mean `flag`?"),
        (
            GOOD + "zzz: 1\n",
            "4:1: unknown key `zzz`; allowed here: edgepack, flag, inner, items, pair, share, table, title",
        ),
        (
            "edgepack: 2\ntitle: t\ninner: {count: 1}\n",
            "1:11: expected 1, the version of this file's schema, got the number 2",
        ),
        ("edgepack: 1\ninner: {count: 1}\n", "1:1: missing key `title`"),
        ("edgepack: 1\ntitle: t\ninner: {}\n", "3:1: missing key `count` in `inner`"),
        ("edgepack: 1\ntitel: t\ninner: {count: 1}\n", "2:1: unknown key `titel`; did you mean `title`?"),
        (
            GOOD.replace("title: t", "title: 3"),
            "2:8: expected text, got the number 3; quote it if it is meant as text",
        ),
        (
            GOOD.replace("count: 1", 'count: "1"'),
            "3:16: expected a whole number, got the text '1'; write 1, unquoted and without leading zeros",
        ),
        (GOOD.replace("count: 1", "count: 1.5"), "3:16: expected a whole number, got the number 1.5"),
        (GOOD.replace("count: 1", "count: true"), "3:16: expected a whole number, got true"),
        (GOOD.replace("count: 1", "count: 0"), "3:16: expected a number at least 1, got the number 0"),
        (
            GOOD.replace("inner: {count: 1}", "inner: 5"),
            "3:8: expected a mapping of keys to values, got the number 5",
        ),
        (
            GOOD.replace("inner: {count: 1}", "inner:"),
            "3:7: expected a mapping of keys to values, got nothing",
        ),
        (GOOD + "items: {count: 1}\n", "4:8: expected a list, got a mapping"),
        (GOOD + "items:\n  - count: 1\n  - cuont: 2\n", "6:5: unknown key `cuont`; did you mean `count`?"),
        (
            GOOD + "items:\n  - kind: flaot32\n    count: 1\n",
            "5:11: expected one of float32, int8, got the text 'flaot32'; did you mean `float32`?",
        ),
        (GOOD + "pair: [1]\n", "4:7: item 2 is missing"),
        (GOOD + "pair: [1, 2, 3]\n", "4:7: expected at most 2 items, got a list of 3"),
        (GOOD + "flag: no\n", "4:7: expected true or false, got the text 'no'; write false"),
        (GOOD + "share: 1\n", "4:8: expected a number below 1, got the number 1"),
        (GOOD + "table: {x: {count: 1, knid: int8}}\n", "4:23: unknown key `knid`; did you mean `kind`?"),
        ("- 1\n", "1:1: expected a mapping of keys to values, got a list of 1"),
        ("just text\n", "1:1: expected a mapping of keys to values, got the text 'just text'"),
    ],
)
def test_pydantic_errors_have_plain_messages_and_positions(tmp_path, content, expected):
    assert explained(tmp_path, content) == [expected]


def test_lists_become_tuples_and_whole_numbers_floats(tmp_path):
    path = tmp_path / "outer.yaml"
    path.write_text(GOOD + "pair: [1, 2]\nitems: [{count: 3}]\n")
    outer = read_model(path, Outer).result()
    assert outer.pair == (1, 2)
    assert outer.items == (Inner(count=3),)


def test_form_and_content_are_reported_together(tmp_path):
    found = explained(tmp_path, "edgepack: 1\ntitle: &a t\ninner: {count: 0}\nflag: !x true\nflag: 1\n")
    assert [f.split(": ")[0] for f in found] == ["2:8", "3:16", "4:7", "5:1"]


def test_every_pattern_of_every_schema_has_a_description():
    from edgepack.config.schema import KINDS, schema

    def patterns(node):
        if isinstance(node, dict):
            yield from ([node["pattern"]] if isinstance(node.get("pattern"), str) else [])
            node = list(node.values())
        if isinstance(node, list):
            for item in node:
                yield from patterns(item)

    used = {pattern for kind in KINDS for pattern in patterns(schema(kind))}
    assert used == set(PATTERNS)
