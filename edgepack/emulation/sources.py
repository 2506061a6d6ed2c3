"""The sources of a model's CUDA kernels, in one text file: each CUDA module after a line with its cubin's digest.

It is written where a model is compiled, and read where an emulated GPU needs the kernels of a cubin. A bundle never
contains it.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgepack.base.files import write_atomic
from edgepack.errors import EdgepackError, InputError

_HEAD = "// edgepack: kernels of cubin sha256:"
_LINE = re.compile(rf"^{re.escape(_HEAD)}(.*)$", re.MULTILINE)
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Kernels:
    """The source of one CUDA module, and the sha256 of the cubin that was made from it."""

    digest: str
    source: str


def write(path: Path, compiled: Iterable[tuple[str, bytes]]) -> None:
    """Write sources with their cubins to a sources file, atomically.

    Raises:
        EdgepackError: A source has a line that starts a module in such a file.
    """
    save(path, [Kernels(digest_of(cubin), source) for source, cubin in compiled])


def save(path: Path, kernels: Iterable[Kernels]) -> None:
    """Write a sources file, atomically; of modules with equal cubins, only the first is kept.

    Raises:
        EdgepackError: As ``write``.
    """
    found: dict[str, str] = {}
    for each in kernels:
        if _LINE.search(each.source):
            raise EdgepackError(
                "a CUDA source cannot be written to a file of kernel sources",
                where=str(path),
                why=f"it has a line that starts with '{_HEAD}'",
                next="report this",
            )
        found.setdefault(each.digest, each.source)
    # One line break is added to each source, and removed when it is read: no source changes.
    text = "".join(f"{_HEAD}{digest}\n{source}\n" for digest, source in found.items())
    write_atomic(path, text.encode())


def read(path: Path) -> list[Kernels]:
    """Read a sources file.

    Raises:
        InputError: It cannot be read, or is not such a file.
    """
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise InputError("cannot read the kernel sources", where=str(path), why=error.strerror) from error
    except UnicodeDecodeError as error:
        raise _damaged(path, f"byte {error.start} is not UTF-8") from error
    heads = list(_LINE.finditer(text))
    if text and (not heads or heads[0].start()):
        raise _damaged(path, f"it does not start with '{_HEAD}'")
    found = []
    for number, head in enumerate(heads, 1):
        body = text[head.end() : heads[number].start() if number < len(heads) else len(text)]
        line = text.count("\n", 0, head.start()) + 1
        if not _DIGEST.fullmatch(head[1]):
            raise _damaged(path, f"line {line}: '{head[1][:80]}' is not a sha256")
        if len(body) < 2 or not body.endswith("\n"):  # noqa: PLR2004 - the line breaks before and after a source
            raise _damaged(path, f"line {line}: the module ends within a line")
        found.append(Kernels(head[1], body[1:-1]))
    return found


def digest_of(cubin: bytes) -> str:
    """The digest by which the kernels of a cubin are found."""
    return hashlib.sha256(cubin).hexdigest()


def _damaged(path: Path, why: str) -> InputError:
    return InputError(
        "not a file of kernel sources",
        where=str(path),
        why=why,
        next="build it again: edgepack package RECIPE",
    )
