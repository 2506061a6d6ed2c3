"""Inline assembly in CUDA source."""

import re

from edgepack.errors import EdgepackError


def rewrite(source: str) -> str:
    """Return the source.

    Raises:
        EdgepackError: It has inline assembly.
    """
    if re.search(r"\b(?:__asm__|asm)\b\s*(?:__volatile__|volatile)?\s*\(", source):
        raise EdgepackError("the emulated GPU cannot run these kernels", why="they have inline assembly")
    return source
