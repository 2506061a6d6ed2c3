"""A stage of the pipeline: the engine's contract, and which work it has for a candidate, a target or a device.

Most stages have one piece of work, or none, and override ``request``. One with several overrides ``requests``: each piece
is asked for when those before it are done, and what they made is in the run it is asked with.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from edgepack.engine.stage import F, Request, S, Skip, Stage
from edgepack.pipeline.state import CandidateRun, DeviceRun, Resources, TargetRun

NO_DEVICE = "the recipe names no device for this target"

A = TypeVar("A")  # the run that a stage is asked with


class PipelineStage(Stage[S, F, Resources], Generic[S, F, A]):
    """A stage that says which work it has at its place in a run."""

    def request(self, at: A) -> Request[S] | Skip | None:
        """The work there; a Skip where leaving it out is worth reporting, None where there is none."""
        del at
        return None

    def requests(self, at: A) -> Sequence[Callable[[], Request[S] | Skip | None]]:
        """The pieces of work there, in order, each to be called when those before it are done."""
        return (partial(self.request, at),)


class ModelStage(PipelineStage[S, F, CandidateRun]):
    """Runs for a candidate; candidates that begin with the same steps share its results."""


class TargetStage(PipelineStage[S, F, TargetRun]):
    """Runs for each candidate and target."""


class DeviceStage(PipelineStage[S, F, DeviceRun]):
    """Runs for each candidate and device."""
