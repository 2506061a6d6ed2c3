"""What a run tells whoever listens, while it runs: typed events, each with the place it happened at.

Events are plain data: :mod:`edgepack.pipeline.trace` writes them to disk and reads them back, and the report is a fold
over them.
"""

from collections.abc import Callable
from typing import Any, Literal, Self

from pydantic import Field

from edgepack.base.text import human_size
from edgepack.engine.artifact import Artifact
from edgepack.errors import EdgepackError
from edgepack.spec import Finite, Spec

Status = Literal["done", "cached", "failed", "skipped", "shared"]
"""``shared``: another candidate of this run did the same work before."""


class Scope(Spec):
    """Where in a run something happens.

    Attributes:
        stage: the stage's name.
        label: the name in reports: the stage's own, or that of one of several steps.
        candidate: whose work it is; None for work outside a candidate.
        shared: the work is not this candidate's alone. Reports list it under no candidate.
        target: None in the stages of a model.
        device: None outside the stages of a device.
    """

    stage: str
    label: str
    candidate: str | None = None
    shared: bool = False
    target: str | None = None
    device: str | None = None

    @property
    def listed_candidate(self) -> str | None:
        """The candidate that reports list the work under."""
        return None if self.shared else self.candidate

    def key(self, recipe: str) -> str:
        """Names this place from run to run, for what a stage last ran with."""
        places = [recipe, self.label, self.target, self.listed_candidate]
        if self.device is not None:
            places.append(self.device)
        return "/".join(place or "-" for place in places)


class ErrorRecord(Spec):
    """An error as the user saw it; the fields of edgepack.errors.EdgepackError."""

    type: str
    message: str
    exit_code: int
    stage: str | None = None
    target: str | None = None
    device: str | None = None
    where: str | None = None
    why: str | None = None
    state: str | None = None
    next: str | None = None
    problems: tuple[dict[str, Any], ...] = ()
    model_problems: tuple[dict[str, Any], ...] = Field(
        default=(), description="Why a model cannot be lowered: operator, node, message, why, next."
    )

    @classmethod
    def of(cls, error: EdgepackError, scope: Scope | None = None) -> Self:
        """The record of an error; without a scope it is one of the whole run."""
        fields: dict[str, Any] = error.to_json()
        for several in ("problems", "model_problems"):
            fields[several] = tuple(fields.get(several, ()))
        if scope is not None:
            fields |= {"stage": scope.label, "target": scope.target, "device": scope.device}
        return cls(**fields)

    @property
    def details(self) -> tuple[tuple[str, str], ...]:
        """Each problem of a recipe or model, as a label and a text."""
        problems = [("problem", ": ".join(str(value) for value in one.values())) for one in self.problems]
        for one in (
            self.model_problems if len(self.model_problems) > 1 else ()
        ):  # a single one is the error itself
            place = f" (node {one['node']})" if one["node"] else ""
            words = "; ".join(one[part] for part in ("why", "next") if one[part])
            problems.append(("problem", f"{one['message']}{place}: {words}"))
        return tuple(problems)


class StageStarted(Spec):
    """A stage began to work: nothing cached answered for it."""

    event: Literal["stage-started"] = "stage-started"
    scope: Scope
    why: str


class StageEnded(Spec):
    """A stage ended, whatever became of it. ``figures`` are those of the stage's own type, as JSON values."""

    event: Literal["stage-ended"] = "stage-ended"
    scope: Scope
    status: Status
    seconds: Finite = Field(default=0.0, ge=0, description="Wall clock.")
    started: Finite | None = Field(default=None, ge=0, description="Seconds after the run began.")
    why: str | None = Field(
        default=None, description="Why it was not cached, why it failed, why it was skipped."
    )
    artifacts: tuple[Artifact, ...] = ()
    figures: dict[str, Any] | None = None
    error: ErrorRecord | None = None


class Advanced(Spec):
    """A stage says how far it is: free text, and the share done (0..1) where it is known."""

    event: Literal["advanced"] = "advanced"
    text: str
    share: float | None = None

    @classmethod
    def sent(cls, done: int, total: int) -> Self:
        """So many bytes of all were sent."""
        return cls(
            text=f"{human_size(done)} of {human_size(total)} sent", share=done / total if total else 1.0
        )


Event = StageStarted | StageEnded | Advanced
Listener = Callable[[Any], None]
"""Called with each event of a run: those above, and those of :mod:`edgepack.pipeline.trace`."""


def ignore(_event: Any) -> None:
    """The listener that does not listen."""
