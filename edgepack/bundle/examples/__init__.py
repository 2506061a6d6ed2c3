"""The examples in every bundle, for users who integrate the model into their own program.

Imports: executor.
"""

from pathlib import Path

from edgepack.executor.build import HEADERS

FOLDER = Path(__file__).parent
_FOLDERS = {"aot": "own", "vm": "machine"}
_NAMES = {
    "aot": ("README.md", "infer.c", "infer.cpp", "infer.py", "infer.rs"),
    "vm": ("README.md", "infer.c", "infer.py"),
}


def example_files(executor: str) -> dict[str, Path]:
    """The example files by their names in a bundle's ``examples`` folder, for models that this executor runs."""
    folder = FOLDER / _FOLDERS[executor]
    return {name: folder / name for name in _NAMES[executor]}


def header_files(executor: str) -> dict[str, Path]:
    """The C headers for applications by their names in a bundle's ``include`` folder."""
    return {path.name: path for path in HEADERS.glob("*.h")} if executor == "aot" else {}
