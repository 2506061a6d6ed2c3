"""Committed results: JSON documents, and the pages, tables and charts generated from them."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepack.base.files import write_atomic
from edgepack.errors import InputError


def read(path: Path) -> dict[str, Any]:
    """Read a document.

    Raises:
        InputError: It is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no results there", where=str(path), next="run without --page first") from None
    except ValueError as error:
        raise InputError("not a JSON document", where=str(path), why=str(error)) from error


def write(path: Path, document: Mapping[str, Any], *, indent: int | None = 1) -> None:
    write_text(path, json.dumps(document, indent=indent) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a page or a chart atomically; creates its folder."""
    write_atomic(path, text.encode())


def fill_template(template: Path, **parts: object) -> str:
    """Fill the parts into the ``template`` of a page; empty parts leave no gap."""
    text = template.read_text(encoding="utf-8").format(**parts)
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def markdown(
    columns: Sequence[str], rows: Iterable[Sequence[str]], right: int = 1, *, tight: bool = False
) -> str:
    """Format a Markdown table; columns from ``right`` on are right-aligned.

    ``tight`` omits spaces in the separator row and in columns without a name.
    """

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    rule = ["---" if index < right else "---:" for index in range(len(columns))]
    head = [line(columns), line(rule)]
    if tight:
        head = [head[0].replace("|  |", "| |"), f"|{'|'.join(rule)}|"]
    return "\n".join([*head, *map(line, rows)])


def plain(rows: Sequence[Sequence[str]], right: int = 1) -> str:
    """Format a table for the terminal; columns from ``right`` on are right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index < right else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
