"""A model as a static library, with what an application's build needs: headers, pkg-config and CMake files, an example."""

import re
from collections.abc import Sequence
from pathlib import Path
from string import Template

from edgepack.base.files import write_atomic
from edgepack.bundle.examples import FOLDER, header_files
from edgepack.spec import Tensor

_TEMPLATES = FOLDER / "static"


def identifier(name: str) -> str:
    """Return a name as C's identifiers are: what the symbols of a static library begin with."""
    plain = re.sub(r"\W+", "_", name.lower(), flags=re.ASCII).strip("_") or "model"
    return f"model_{plain}" if plain[0].isdigit() else plain


def archive(folder: Path, name: str) -> Path:
    """Return the path of the library in the folder."""
    return folder / "lib" / f"lib{name}.a"


def weights(folder: Path, name: str) -> Path:
    """Return the path of the weights file in the folder."""
    return folder / "lib" / f"{name}.weights"


def write_others(
    folder: Path,
    name: str,
    *,
    version: str,
    target: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
) -> None:
    """Write all files beside the library and its weights.

    Args:
        folder: Where to.
        name: Of the library, as :func:`identifier` returns it.
        version: Of the release.
        target: The name of the target.
        inputs: The model's.
        outputs: The model's.
    """
    words = {
        "name": name,
        "guard": f"{name.upper()}_H",
        "version": version,
        "target": target,
        "tensors": "\n".join(_described("input", inputs) + _described("output", outputs)),
    }
    for template, path in (
        ("model.h.in", f"include/{name}.h"),
        ("model.pc.in", f"lib/pkgconfig/{name}.pc"),
        ("config.cmake.in", f"lib/cmake/{name}/{name}Config.cmake"),
        ("example.c.in", "example.c"),
        ("README.md.in", "README.md"),
    ):
        text = Template((_TEMPLATES / template).read_text(encoding="utf-8")).substitute(words)
        _write(folder / path, text.encode())
    for header, source in header_files("aot").items():
        _write(folder / "include" / header, source.read_bytes())


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data)


def _described(role: str, tensors: Sequence[Tensor]) -> list[str]:
    return [
        f" *     {role} {number}: {_plain(tensor.name)}, {tensor.dtype}{list(tensor.shape)}"
        for number, tensor in enumerate(tensors)
    ]


def _plain(text: str) -> str:
    """A name as it may be in a comment of C."""
    return re.sub(r"[^\w .:/-]", "?", text, flags=re.ASCII).replace("*/", "*?").replace("/*", "?*")
