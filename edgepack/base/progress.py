"""How long work says how far it is."""

from collections.abc import Callable

Progress = Callable[[str, float | None], None]
"""Called with a short text, and the share done (0..1) where it is known."""


def silent(_text: str, _share: float | None = None) -> None:
    """The progress nobody watches."""
