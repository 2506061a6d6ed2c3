"""What a run tells whoever listens, while it runs."""

from collections.abc import Callable
from dataclasses import dataclass

from edgepack.base.text import human_size
from edgepack.engine.outcome import Outcome


@dataclass(frozen=True)
class StageStarted:
    """A stage began to work: nothing cached answered for it."""

    stage: str
    target: str | None
    variant: str | None
    why: str


@dataclass(frozen=True)
class StageEnded:
    """A stage ended: done, cached, failed or skipped."""

    outcome: Outcome


@dataclass(frozen=True)
class Advanced:
    """A stage says how far it is: free text, and the share done (0..1) where it is known."""

    text: str
    share: float | None = None

    @classmethod
    def sent(cls, done: int, total: int) -> "Advanced":
        """So many bytes of all were sent."""
        return cls(f"{human_size(done)} of {human_size(total)} sent", done / total if total else 1.0)


Event = StageStarted | StageEnded | Advanced
Listener = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """The listener that does not listen."""
