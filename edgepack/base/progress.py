"""Progress of long-running work."""

from collections.abc import Callable

Progress = Callable[[str, float | None], None]
"""Called with a short text, and the fraction done (0..1) if it is known."""


def silent(_text: str, _share: float | None = None) -> None:
    """A no-op progress callback."""
