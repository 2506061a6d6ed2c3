"""The examples every bundle carries, for people who put the model into a program of their own.

Imports: nothing.
"""

from pathlib import Path


def example_files() -> dict[str, Path]:
    """The example files by the name they have in a bundle's ``examples`` folder."""
    folder = Path(__file__).parent
    return {name: folder / name for name in ("README.md", "infer.c", "infer.py")}
