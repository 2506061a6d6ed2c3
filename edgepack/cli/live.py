"""Progress on stderr: rich on a terminal, plain lines in a log."""

import time
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from edgepack.engine.events import Advanced, Event, StageEnded, StageStarted
from edgepack.engine.outcome import Outcome

_MARK = {"done": "✓", "cached": "·", "failed": "✗", "skipped": "-"}
_STYLE = {"done": "green", "cached": "dim", "failed": "bold red", "skipped": "dim"}
_QUIET_SECONDS = 5.0


def _place(stage: str, target: str | None, variant: str | None) -> str:
    return " ".join(part for part in (stage, target, variant) if part)


def _line(outcome: Outcome) -> str:
    place = _place(outcome.stage, outcome.target, outcome.variant)
    took = f"{outcome.seconds:6.1f} s" if outcome.status in {"done", "failed"} else f"{outcome.status:>8}"
    why = f"  {outcome.why}" if outcome.why else ""
    return f"{_MARK[outcome.status]} {place:<44} {took}{why}"


class PlainListener:
    """One line for each stage that ended; long work reports every few seconds."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._spoke = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Print what is worth a line in a log."""
        now = time.monotonic()
        if isinstance(event, StageEnded):
            self._say(_line(event.outcome))
        elif isinstance(event, Advanced) and now - self._spoke > _QUIET_SECONDS:
            self._say(f"  {event.text}")

    def _say(self, text: str) -> None:
        self._spoke = time.monotonic()
        self._out.write(text + "\n")
        self._out.flush()


class LiveListener:
    """A spinner and a bar for the stage at work, a line for each that ended."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), TimeElapsedColumn(),
            console=self._console, transient=True,
        )  # fmt: skip
        self._task = self._progress.add_task("starting", total=None)
        self._place = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Redraw what changed."""
        if isinstance(event, StageStarted):
            self._place = _place(event.stage, event.target, event.variant)
            self._progress.reset(self._task, description=self._place, total=None)
        elif isinstance(event, StageEnded):
            self._console.print(
                _line(event.outcome), style=_STYLE[event.outcome.status], markup=False, highlight=False
            )
        else:
            self._progress.update(
                self._task,
                description=f"{self._place}  {event.text}",
                total=None if event.share is None else 1.0,
                completed=event.share or 0.0,
            )
