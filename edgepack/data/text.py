"""Labelled text from CSV or JSONL, and its tokenizers."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base.text import near_miss
from edgepack.data.splits import Splits, stratified_split
from edgepack.data.user_code import call_user_code, importable, resolve
from edgepack.errors import InputError

if TYPE_CHECKING:
    from edgepack.spec import Text

PAD, UNKNOWN = 0, 1
PAD_WORD, UNKNOWN_WORD = "<pad>", "<unk>"
_WORD = re.compile(r"\w+|[^\w\s]")
_BYTE_IDS = 257  # padding and 256 byte values


def words(text: str) -> list[str]:
    """Lower-cased words and single punctuation marks."""
    return _WORD.findall(text.lower())


def build_vocabulary(texts: Iterable[str], size: int) -> tuple[str, ...]:
    """The ``size - 2`` most frequent words (ties alphabetical) after ``<pad>`` (0) and ``<unk>`` (1)."""
    counts = Counter(word for text in texts for word in words(text))
    frequent = sorted(counts, key=lambda word: (-counts[word], word))[: max(size - 2, 0)]
    return (PAD_WORD, UNKNOWN_WORD, *frequent)


def encode_words(text: str, ids: dict[str, int]) -> list[int]:
    """Token ids of ``text``; words that are not in ``ids`` are ``<unk>``."""
    return [ids.get(word, UNKNOWN) for word in words(text)]


def encode_bytes(text: str) -> list[int]:
    """UTF-8 bytes plus 1, since 0 is padding: ids 1 to 256."""
    return [byte + 1 for byte in text.encode("utf-8", errors="surrogatepass")]


def pad(ids: Sequence[int], length: int) -> list[int]:
    """Exactly ``length`` ids: truncated, or padded with 0."""
    return [*ids[:length], *[PAD] * (length - len(ids))]


def load_text(spec: "Text", kind: str, base: Path, test_fraction: float, seed: int) -> Splits:
    """Samples as int64 token ids ``[N, length]``; the word vocabulary is built from the training split.

    Raises:
        InputError: with file and line, for a missing column or key, a broken row, or a tokenizer that fails.
    """
    import numpy as np

    path = base / spec.file
    rows = list(_read_csv(path, spec) if kind == "csv" else _read_jsonl(path, spec))
    if not rows:
        raise InputError("the file has no samples", where=str(path))
    names = {label for _, label, _ in rows}
    numeric = all(re.fullmatch(r"-?\d+", name) for name in names)
    classes = sorted(names, key=int) if numeric else sorted(names)
    number = {name: i for i, name in enumerate(classes)}
    y = np.asarray([number[label] for _, label, _ in rows], dtype=np.int64)
    train, test = stratified_split(y, test_fraction, seed)
    vocabulary: tuple[str, ...] = ()
    if spec.tokenizer == "words":
        vocabulary = build_vocabulary((rows[i][0] for i in train), spec.vocabulary)
        ids = {word: i for i, word in enumerate(vocabulary)}
        encoded = [encode_words(text, ids) for text, _, _ in rows]
    elif spec.tokenizer == "bytes":
        if spec.vocabulary < _BYTE_IDS:
            raise InputError(
                f"the bytes tokenizer needs vocabulary: {_BYTE_IDS}", where=f"{path}: data.{kind}"
            )
        encoded = [encode_bytes(text) for text, _, _ in rows]
    else:
        encoded = _encode_by_user(rows, spec, path, base)
    x = np.asarray([pad(tokens, spec.length) for tokens in encoded], dtype=np.int64)
    return Splits(x[train], y[train], x[test], y[test], classes=tuple(classes), vocabulary=vocabulary)


def _encode_by_user(
    rows: list[tuple[str, str, int]], spec: "Text", path: Path, base: Path
) -> list[list[int]]:
    with importable(base):
        tokenize: Callable[[str], Any] = resolve(spec.tokenizer, base)
        encoded = []
        for text, _, line in rows:
            tokens = call_user_code(tokenize, spec.tokenizer, base, text)
            if not isinstance(tokens, list) or not all(
                isinstance(token, int) and 0 <= token < spec.vocabulary for token in tokens
            ):
                raise InputError(
                    f"{spec.tokenizer} must return a list of token ids from 0 to {spec.vocabulary - 1}",
                    where=f"{path}:{line}",
                    why=f"it returned {str(tokens)[:60]}",
                )
            encoded.append(tokens)
    return encoded


def _open(path: Path) -> str:
    if not path.is_file():
        raise InputError("there is no such data file", where=str(path))
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise InputError("the file is not UTF-8 text", where=f"{path}:{line}", why=error.reason) from error


def _read_csv(path: Path, spec: "Text") -> Iterator[tuple[str, str, int]]:
    """Text, label and line of each row."""
    reader = csv.DictReader(io.StringIO(_open(path), newline=""), strict=True)
    try:
        columns = list(reader.fieldnames or ())
        for column in (spec.text, spec.label):
            if column not in columns:
                raise _missing("column", column, columns, f"{path}:1")
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if None in row or None in row.values():
                raise InputError(f"the row does not have {len(columns)} fields", where=where)
            yield row[spec.text], row[spec.label].strip(), reader.line_num
    except csv.Error as error:
        raise InputError(
            "the file is not CSV", where=f"{path}:{reader.reader.line_num}", why=str(error)
        ) from error


def _read_jsonl(path: Path, spec: "Text") -> Iterator[tuple[str, str, int]]:
    """Text, label and line of each object."""
    for number, line in enumerate(_open(path).split("\n"), start=1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InputError("the line is not JSON", where=where, why=str(error)) from error
        if not isinstance(row, dict):
            raise InputError(f"the line is a {type(row).__name__}, not an object", where=where)
        for key in (spec.text, spec.label):
            if key not in row:
                raise _missing("key", key, list(row), where)
        text, label = row[spec.text], row[spec.label]
        if not isinstance(text, str):
            raise InputError(f"{spec.text!r} is not text", where=where)
        if not isinstance(label, str | int):
            raise InputError(f"{spec.label!r} is neither text nor a whole number", where=where)
        yield text, str(label), number


def _missing(kind: str, name: str, known: list[str], where: str) -> InputError:
    hint = near_miss(name, known, say="there are", quote="'") or "; there are none"
    return InputError(f"there is no {kind} {name!r}{hint}", where=where)
