"""A model as a static library, with what an application's build needs: headers, pkg-config and CMake files, an example."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

from edgepack.base.files import write_atomic
from edgepack.base.text import c_literal
from edgepack.bundle.examples import FOLDER, header_files
from edgepack.spec import Preprocess, Tensor

_TEMPLATES = FOLDER / "static"


_TAKEN = frozenset(
    [
        "auto",
        "bool",
        "break",
        "case",
        "catch",
        "char",
        "class",
        "const",
        "continue",
        "default",
        "delete",
        "do",
        "double",
        "else",
        "enum",
        "explicit",
        "extern",
        "false",
        "float",
        "for",
        "friend",
        "goto",
        "if",
        "inline",
        "int",
        "long",
        "main",
        "namespace",
        "new",
        "nullptr",
        "operator",
        "private",
        "protected",
        "public",
        "register",
        "restrict",
        "return",
        "short",
        "signed",
        "sizeof",
        "static",
        "struct",
        "switch",
        "template",
        "this",
        "throw",
        "true",
        "try",
        "typedef",
        "union",
        "unsigned",
        "using",
        "virtual",
        "void",
        "volatile",
        "while",
        "count",
        "fprintf",
        "i",
        "k",
        "opened",
        "printf",
        "stderr",
        "type",
        "values",
        "why",
        "words",
    ]
)
"""Words of C and C++, and names in the example."""

_WITH_FILE = {
    "run": "./example lib/$name.weights",
    "usage": "example $name.weights",
    "count": "2",
    "weights": "words[1]",
    "source": "with the file $name.weights",
    "cmake": 'set(${name}_WEIGHTS "$${_${name}_prefix}/lib/${name}.weights")',
    "where": "The weights are in `lib/$name.weights`, whose path `edgepack_open` gets.",
}
_EMBEDDED = {
    "run": "./example",
    "usage": "example",
    "count": "1",
    "weights": "NULL",
    "source": "with NULL for the weights, which are in the library",
    "cmake": "",
    "where": "The weights are in the library: `edgepack_open` gets NULL in place of a file.",
}
"""Words of the templates, for a library with a weights file beside it, and for one that contains its weights."""


def identifier(name: str) -> str:
    """Return a name as C's identifiers are: what the symbols of a static library begin with."""
    plain = re.sub(r"\W+", "_", name.lower(), flags=re.ASCII).strip("_") or "model"
    return f"model_{plain}" if plain[0].isdigit() or plain in _TAKEN else plain


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
    weights: bool = True,
    preprocess: Mapping[str, Preprocess] | None = None,
) -> None:
    """Write all files beside the library and its weights.

    Args:
        folder: Where to.
        name: Of the library, as :func:`identifier` returns it.
        version: Of the release.
        target: The name of the target.
        inputs: The model's.
        outputs: The model's.
        weights: Whether there is a weights file; the library contains the weights otherwise.
        preprocess: How images become an input, by its name.
    """
    words = {
        **(_WITH_FILE if weights else _EMBEDDED),
        "name": name,
        "guard": f"{name.upper()}_H",
        "version": version,
        "target": target,
        "tensors": "\n".join(_described("input", inputs) + _described("output", outputs)),
        "preprocess": _preprocess(name, inputs, preprocess or {}),
    }
    words = {key: Template(text).safe_substitute(name=name) for key, text in words.items()}
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


def _preprocess(name: str, inputs: Sequence[Tensor], known: Mapping[str, Preprocess]) -> str:
    """Return a macro for each input that images become, with how they do as JSON, as in a bundle's manifest."""
    return "".join(
        f"#define {name.upper()}_INPUT_{number}_PREPROCESS {c_literal(known[tensor.name].model_dump_json())}\n"
        for number, tensor in enumerate(inputs)
        if tensor.name in known
    )


def _plain(text: str) -> str:
    """A name as it may be in a comment of C."""
    return re.sub(r"[^\w .:/-]", "?", text, flags=re.ASCII).replace("*/", "*?").replace("/*", "?*")
