"""Typed events that a run sends to its listener, each with its scope.

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
"""``shared``: the same work was already done for another candidate of this run."""


class Scope(Spec):
    """The part of a run that an event belongs to.

    Attributes:
        stage: the stage's name.
        label: the name in reports: the stage's own, or that of one of several steps.
        candidate: whose work it is; None for work outside a candidate.
        shared: the work is not this candidate's alone. Reports list it under no candidate.
        target: None for model stages.
        device: None except for device stages.
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
        """A key for this scope that is the same in every run, to look up the ingredients of the previous run."""
        places = [recipe, self.label, self.target, self.listed_candidate]
        if self.device is not None:
            places.append(self.device)
        return "/".join(place or "-" for place in places)


class ErrorRecord(Spec):
    """An error as shown to the user; the fields of edgepack.errors.EdgepackError."""

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
        """The record of an error; without a scope the error belongs to the whole run."""
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
    """A stage started, since its result was not cached."""

    event: Literal["stage-started"] = "stage-started"
    scope: Scope
    why: str


class StageEnded(Spec):
    """A stage ended. ``figures`` has the stage's own type, as JSON values."""

    event: Literal["stage-ended"] = "stage-ended"
    scope: Scope
    status: Status
    seconds: Finite = Field(default=0.0, ge=0, description="Wall-clock time.")
    started: Finite | None = Field(default=None, ge=0, description="Seconds since the run began.")
    why: str | None = Field(default=None, description="Why it was not cached, failed or was skipped.")
    artifacts: tuple[Artifact, ...] = ()
    figures: dict[str, Any] | None = None
    error: ErrorRecord | None = None


class Advanced(Spec):
    """Progress of a stage: free text, and the fraction done (0..1) if it is known."""

    event: Literal["advanced"] = "advanced"
    text: str
    share: float | None = None

    @classmethod
    def sent(cls, done: int, total: int) -> Self:
        """Progress of a transfer, in bytes."""
        return cls(
            text=f"{human_size(done)} of {human_size(total)} sent", share=done / total if total else 1.0
        )


Event = StageStarted | StageEnded | Advanced
Listener = Callable[[Any], None]
"""Called with each event of a run: those above, and those of :mod:`edgepack.pipeline.trace`."""


def ignore(_event: Any) -> None:
    """A no-op listener."""
