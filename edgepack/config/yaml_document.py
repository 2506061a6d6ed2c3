"""Strict YAML reader: plain data with the position of every key and value, and syntax problems.

PyYAML's YAML 1.1 turns ``no`` into False, ``12:30`` into 750 and ``010`` into 8, and silently keeps the last
of two equal keys. Here scalars follow YAML 1.2's core schema, decimal numbers only; anything
else than a number, ``true``, ``false`` or ``null`` is text. Duplicate keys, tags, anchors and aliases, keys that are
not text and several documents in one file are problems.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from edgepack.config.problems import DataProblem, Location
from edgepack.errors import Problem

Event = Any  # a yaml.Event; the stubs give most of its attributes no type

MAX_BYTES = 64 << 10
MAX_DEPTH = 32
MAX_DIGITS = 19  # digits of a 64-bit integer

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")

# PyYAML's messages for common errors, and clearer ones.
_HINTS = {
    "mapping values are not allowed here": "a second ': ' on this line, or a key that is indented too far; "
    "quote text that contains a colon",
    "could not find expected ':'": "a key without its ':'",
    "expected <block end>, but found '<block mapping start>'": "this line is indented further than the lines around it",
    "expected <block end>, but found '-'": "this '-' is not aligned with the list above it",
    "expected <block end>, but found '?'": "this key is not aligned with the keys above it",
    "expected <block end>, but found '<scalar>'": "text after a closing quote; quote the whole value",
    "expected the node content, but found '<stream end>'": "the file ends in the middle of a list or mapping",
}


@dataclass(frozen=True)
class YamlDocument:
    """A YAML file: plain JSON-like ``data``, and the position (line, column, from 1) of each key and value."""

    file: str
    data: Any
    values: dict[Location, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Location, tuple[int, int]] = field(default_factory=dict)
    bad: frozenset[Location] = frozenset()  # locations that already have a problem
    blank: frozenset[Location] = frozenset()  # locations of keys without a value

    def place(self, location: Location) -> str:
        """The file, line and column of the value at a location."""
        line, column = self.values.get(location, (1, 1))
        return f"{self.file}:{line}:{column}"

    def problem(self, data_problem: DataProblem) -> Problem:
        """The problem with its position in the file, or that of the nearest enclosing item."""
        where = data_problem.location
        if data_problem.on_key and where in self.keys:
            return Problem(self.file, *self.keys[where], data_problem.message)
        while where and where not in self.values:
            where = where[:-1]
        return Problem(self.file, *self.values.get(where, (1, 1)), data_problem.message)


def read(path: Path) -> tuple[YamlDocument, list[Problem]]:
    """Read a YAML file and collect all syntax problems; ``values`` is empty if it cannot be parsed."""
    file = str(path)
    nothing = YamlDocument(file, None)
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        why = (
            "no such file" if isinstance(error, FileNotFoundError) else (error.strerror or str(error)).lower()
        )
        return nothing, [Problem(file, 1, 1, f"cannot be read: {why}")]
    if len(raw) > MAX_BYTES:
        return nothing, [
            Problem(file, 1, 1, f"larger than {MAX_BYTES >> 10} KiB: not a valid file of this kind")
        ]
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8", "replace")
        return nothing, [Problem(file, *_position(before), f"not UTF-8: byte 0x{raw[error.start]:02x}")]
    builder = _Builder(file)
    try:
        builder.build(yaml.parse(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        builder.problems.append(_syntax(file, text, error))
    except yaml.reader.ReaderError as error:
        position = _position(text[: error.position])
        builder.problems.append(Problem(file, *position, f"character U+{error.character:04X} is not allowed"))
    except _TooDeepError:
        pass  # the builder has recorded the problem
    else:
        return builder.document(), builder.problems
    return nothing, builder.problems


def _position(before: str) -> tuple[int, int]:
    """Line and column of what follows ``before``."""
    lines = re.split(r"\r\n|[\r\n\x85\u2028\u2029]", before)
    return len(lines), len(lines[-1]) + 1


def _syntax(file: str, text: str, error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    said = error.problem or error.context or "not YAML"
    if mark and text[mark.index : mark.index + 1] == "\t":
        return Problem(file, line, column, "a tab; YAML is indented with spaces")
    opened = error.context_mark
    if opened and said == "found unexpected end of stream":
        return Problem(file, opened.line + 1, opened.column + 1, "the quote opened here is never closed")
    hint = _HINTS.get(said)
    since = f" that starts on line {opened.line + 1}" if opened else ""
    context = f" ({error.context}{since})" if error.context and not hint else ""
    return Problem(file, line, column, f"not valid YAML: {hint or said}{context}")


class _TooDeepError(Exception):
    """Stops the builder."""


class _Builder:
    """Builds data from PyYAML's events, as the composer would resolve some values silently."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.values: dict[Location, tuple[int, int]] = {}
        self.keys: dict[Location, tuple[int, int]] = {}
        self.bad: set[Location] = set()
        self.blank: set[Location] = set()
        self.data: Any = None

    def build(self, events: Iterator[Event]) -> None:
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._problem(event, "a second document starts here; only one per file is supported")
                    return
                self.data = self._node(next(events), events, ())
        if not documents:
            self.problems.append(Problem(self.file, 1, 1, "the file is empty"))

    def document(self) -> YamlDocument:
        return YamlDocument(
            self.file, self.data, self.values, self.keys, frozenset(self.bad), frozenset(self.blank)
        )

    def _problem(self, event: Event, message: str, location: Location | None = None) -> None:
        mark = event.start_mark
        self.problems.append(Problem(self.file, mark.line + 1, mark.column + 1, message))
        if location is not None:
            self.bad.add(location)

    def _node(self, event: Event, events: Iterator[Event], location: Location) -> Any:
        self.values[location] = (event.start_mark.line + 1, event.start_mark.column + 1)
        self._check_depth(event, len(location))
        self._properties(event, location)
        if isinstance(event, yaml.AliasEvent):
            return None
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(events, location)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(events, location)
        if not event.value and event.style is None:
            self.blank.add(location)
        return self._scalar(event, location)

    def _properties(self, event: Event, location: Location) -> None:
        if isinstance(event, yaml.AliasEvent):
            self._problem(
                event, f"alias *{event.anchor}: aliases are not supported; write the value out", location
            )
            return
        if event.anchor is not None:
            self._problem(event, f"anchor &{event.anchor}: anchors are not supported; repeat the value")
        if event.tag is not None:
            self._problem(event, f"tag {event.tag}: tags are not supported", location)

    def _check_depth(self, event: Event, depth: int) -> None:
        if depth > MAX_DEPTH:
            self._problem(event, f"nested more than {MAX_DEPTH} levels deep")
            raise _TooDeepError

    def _skip(self, event: Event, events: Iterator[Event], location: Location) -> None:
        """Read past a node whose first event is ``event``."""
        depth = 0
        while True:
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            self._check_depth(event, len(location) + depth)
            if not depth:
                return
            event = next(events)

    def _sequence(self, events: Iterator[Event], location: Location) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(self._node(event, events, (*location, len(items))))
        return items

    def _mapping(self, events: Iterator[Event], location: Location) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._key(event, events, location)
            value = next(events)
            if key is None:
                self._skip(value, events, location)
            elif key in entries:
                line = self.keys[*location, key][0]
                self._problem(event, f"key `{key}` is already set on line {line}")
                self._skip(value, events, location)
            else:
                self.keys[*location, key] = (event.start_mark.line + 1, event.start_mark.column + 1)
                entries[key] = self._node(value, events, (*location, key))
        return entries

    def _key(self, event: Event, events: Iterator[Event], location: Location) -> str | None:
        """The key, or None with a problem if it is not text."""
        before = len(self.problems)
        self._properties(event, location)
        key = self._scalar(event, location) if isinstance(event, yaml.ScalarEvent) else None
        if len(self.problems) > before or isinstance(key, str):
            self._skip(event, events, location)
            return key if isinstance(key, str) else None
        if not isinstance(event, yaml.ScalarEvent):
            self._problem(event, "a key must be text, not a list or mapping", location)
        elif event.value == "":
            self._problem(event, "a value without a key", location)
        else:
            self._problem(event, f'a key must be text; quote it: "{event.value}"', location)
        self._skip(event, events, location)
        return None

    def _scalar(self, event: Event, location: Location) -> Any:
        text: str = event.value
        if _SURROGATE.search(text):  # JSON escapes what is beyond U+FFFF as a pair of surrogates
            try:
                text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
            except UnicodeDecodeError:
                self._problem(
                    event, "text contains half of a surrogate pair, which is not a character", location
                )
                return ""
        if event.style is not None:  # quoted, or a block: text
            return text
        if text in _NULL:
            return None
        if text in _BOOL:
            return _BOOL[text]
        if _INT.fullmatch(text):
            if len(text.lstrip("+-")) > MAX_DIGITS:
                self._problem(event, "a number of more than 64 bits; quote it if it is text", location)
                return 0
            return int(text)
        if _FLOAT.fullmatch(text):
            number = float(text)
            if math.isinf(number):
                self._problem(event, f"{text} is too large for a floating-point number", location)
                return 0.0
            return number
        return text
