"""The examples in every bundle, for users who integrate the model into their own program.

Imports: nothing.
"""

from pathlib import Path


def example_files() -> dict[str, Path]:
    """The example files by their names in a bundle's ``examples`` folder."""
    folder = Path(__file__).parent
    return {name: folder / name for name in ("README.md", "infer.c", "infer.py")}
