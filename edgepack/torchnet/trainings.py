"""The trainings of one stage: what is recorded of each, and its state on disk, from which a killed run continues."""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepack.base.files import write_atomic
from edgepack.spec import TrainingRecord

_SECONDS = 1.0
_SHARE = 0.05  # of the time, at most, that goes into writing states


@dataclass
class Trainings:
    """Collects a record of each training, and gives each a file for its state.

    A stage that is run again has the same trainings in the same order; those that had ended are not repeated.

    Attributes:
        folder: for the files; what is in it was left by the same stage with the same inputs, which was killed. None keeps
            no state.
        every: seconds between two states that are written; more if writing one takes long.
        records: of the trainings that ended, in order.
    """

    folder: Path | None = None
    every: float = _SECONDS
    records: list[TrainingRecord] = field(default_factory=list)
    _begun: int = 0
    _written: float = field(default_factory=time.monotonic)
    _cost: float = 0.0

    def begin(self) -> "SavedState | None":
        """Return the file of the next training; None if there is no folder."""
        self._begun += 1
        return None if self.folder is None else SavedState(self.folder / f"training-{self._begun}.pt", self)

    def is_due(self) -> bool:
        """Whether a state should be written now."""
        wait = max(self.every, self._cost / _SHARE) if self.every else 0.0
        return time.monotonic() - self._written >= wait

    def note_written(self, began: float) -> None:
        """Note that a state was written, from ``began`` until now."""
        self._written = time.monotonic()
        self._cost = self._written - began


@dataclass(frozen=True)
class SavedState:
    """The file with the state of one training."""

    path: Path
    _trainings: Trainings

    def load(self, start: str) -> dict[str, Any] | None:
        """Return the state that a training from the same ``start`` left; None if there is none, or it cannot be read."""
        import torch

        if not self.path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, weights_only=True)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, the training starts from the beginning
            return None
        return state if state.get("start") == start else None

    def save(self, start: str, state: Callable[[], dict[str, Any]]) -> None:
        """Write a state, atomically, if some time has passed since the last one."""
        import torch

        if self._trainings.is_due():
            began = time.monotonic()
            buffer = io.BytesIO()
            torch.save({**state(), "start": start}, buffer)
            write_atomic(self.path, buffer.getvalue())
            self._trainings.note_written(began)
