"""Progress of long-running work."""

import time
from collections.abc import Callable

Progress = Callable[[str, float | None], None]
"""Called with a short text, and the fraction done (0..1) if it is known."""

_MINUTE = 60
_HOUR = 3600


def silent(_text: str, _share: float | None = None) -> None:
    """A no-op progress callback."""


class TimeLeft:
    """Estimates how long work still takes, from the time since its share done was first known.

    What was done before does not count: a resumed training begins with half of its epochs done. When the share falls,
    other work has begun.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or time.monotonic
        self._first: tuple[float, float] | None = None
        self._last = 0.0

    def reset(self) -> None:
        """Other work begins."""
        self._first = None

    def estimate(self, share: float | None) -> float | None:
        """Seconds that are left when ``share`` (0..1) is done; None as long as that is not known."""
        if share is None:
            return None
        now = self._clock()
        if self._first is None or share < self._last:
            self._first = now, share
        self._last = share
        began, before = self._first
        return (now - began) * (1 - share) / (share - before) if share > before else None


def describe_left(seconds: float | None) -> str:
    """``, about 3 min left``; empty if it is not known, or not worth saying."""
    if seconds is None or seconds < 1:
        return ""
    if seconds < _MINUTE:
        return f", about {seconds:.0f} s left"
    if seconds < _HOUR:
        return f", about {seconds / _MINUTE:.0f} min left"
    return f", about {seconds / _HOUR:.1f} h left"
