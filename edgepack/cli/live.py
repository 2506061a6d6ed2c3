"""Progress on stderr: a live display on a terminal, plain lines in a log."""

import time
from collections import Counter
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from edgepack.base.progress import TimeLeft, describe_left
from edgepack.base.text import one_line
from edgepack.engine.events import Advanced, Scope, StageEnded, StageStarted
from edgepack.pipeline.trace import RunStarted

_MARK = {"done": "✓", "cached": "·", "failed": "✗", "skipped": "-"}
_STYLE = {"done": "green", "cached": "dim", "failed": "bold red", "skipped": "dim"}
_QUIET_SECONDS = 5.0


class _Formatter:
    """Formats events as lines; includes the device where its target has several, and the time left where it is known."""

    def __init__(self) -> None:
        self._several: set[str] = set()
        self._left = TimeLeft()

    def start_run(self, event: RunStarted) -> None:
        """Record which targets have several devices."""
        counted = Counter(at.target for at in event.placements)
        self._several = {target for target, count in counted.items() if count > 1}

    def start_stage(self) -> None:
        """Forget how fast the stage before was."""
        self._left.reset()

    def format_progress(self, event: Advanced) -> str:
        """Format the progress of a stage: its text, and the time left."""
        return one_line(event.text + describe_left(self._left.estimate(event.share)))

    def format_scope(self, scope: Scope) -> str:
        """Format a scope: stage, target, candidate and device."""
        device = scope.device if scope.target in self._several else None
        parts = (scope.label, scope.target, scope.listed_candidate, device)
        return one_line(" ".join(part for part in parts if part))

    def format_end(self, event: StageEnded) -> str:
        """Format the outcome of a stage: its mark, scope, duration and reason."""
        took = f"{event.seconds:6.1f} s" if event.status in {"done", "failed"} else f"{event.status:>8}"
        why = f"  {' '.join(event.why.splitlines())}" if event.why else ""
        return one_line(f"{_MARK[event.status]} {self.format_scope(event.scope):<44} {took}{why}")


def _is_shown(event: Any) -> bool:
    """Whether an event is the end of a stage that was not shared with another candidate."""
    return isinstance(event, StageEnded) and event.status != "shared"


class PlainListener:
    """Prints one line per completed stage, and the progress of long stages every few seconds."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._format = _Formatter()
        self._last_output = time.monotonic()

    def __call__(self, event: Any) -> None:
        """Print the event if it belongs in a log."""
        now = time.monotonic()
        if isinstance(event, RunStarted):
            self._format.start_run(event)
        elif _is_shown(event):
            self._print(self._format.format_end(event))
        elif isinstance(event, StageStarted):
            self._format.start_stage()
        elif isinstance(event, Advanced):
            line = self._format.format_progress(event)
            if now - self._last_output > _QUIET_SECONDS:
                self._print(f"  {line}")

    def _print(self, text: str) -> None:
        self._last_output = time.monotonic()
        self._out.write(text + "\n")
        self._out.flush()


class LiveListener:
    """Shows a spinner and a progress bar for the running stage, and one line per completed stage."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._format = _Formatter()
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

    def __call__(self, event: Any) -> None:
        """Update the display for an event."""
        if isinstance(event, RunStarted):
            self._format.start_run(event)
        elif isinstance(event, StageStarted):
            self._format.start_stage()
            self._place = self._format.format_scope(event.scope)
            self._progress.reset(self._task, description=self._place, total=None)
        elif _is_shown(event):
            self._console.print(
                self._format.format_end(event), style=_STYLE[event.status], markup=False, highlight=False
            )
        elif isinstance(event, Advanced):
            self._progress.update(
                self._task,
                description=f"{self._place}  {self._format.format_progress(event)}",
                total=None if event.share is None else 1.0,
                completed=event.share or 0.0,
            )
