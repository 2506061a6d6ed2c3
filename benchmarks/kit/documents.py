"""Committed results: JSON documents, and the pages and charts that are written from them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepack.base.files import write_atomic
from edgepack.errors import InputError


def read(path: Path) -> dict[str, Any]:
    """A document.

    Raises:
        InputError: There is none, or it is damaged.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no results there", where=str(path), next="run without --page first") from None
    except ValueError as error:
        raise InputError("not a JSON document", where=str(path), why=str(error)) from error
    return document


def write(path: Path, document: Mapping[str, Any], *, indent: int | None = 1) -> None:
    """Write a document, atomically."""
    write_text(path, json.dumps(document, indent=indent) + "\n")


def filled(template: Path, **parts: object) -> str:
    """A page: the words of ``template`` with the parts in their places; what is empty leaves no gap."""
    text = template.read_text(encoding="utf-8").format(**parts)
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a page or a chart, atomically; its folder is made."""
    write_atomic(path, text.encode())
