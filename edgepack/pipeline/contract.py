"""Stages of the pipeline: the engine's contract, plus the requests for a candidate, a target or a device.

Most stages have at most one request and override ``request``. A stage with several overrides ``requests``: each is
created after the previous ones have completed, and can use their results.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from edgepack.engine.stage import F, Request, S, Skip, Stage
from edgepack.pipeline.state import CandidateRun, DeviceRun, Resources, TargetRun

NO_DEVICE = "the recipe names no device for this target"

A = TypeVar("A")  # the run that requests are created from


class PipelineStage(Stage[S, F, Resources], Generic[S, F, A]):
    """A stage that creates its requests from the state of a run."""

    def request(self, at: A) -> Request[S] | Skip | None:
        """The request; a Skip if skipping it should be reported, None if there is nothing to do."""
        del at
        return None

    def requests(self, at: A) -> Sequence[Callable[[], Request[S] | Skip | None]]:
        """Functions that create the requests, in order; each is called after the previous request has completed."""
        return (partial(self.request, at),)


class ModelStage(PipelineStage[S, F, CandidateRun]):
    """Runs for each candidate; candidates with the same first steps share results."""


class TargetStage(PipelineStage[S, F, TargetRun]):
    """Runs for each candidate and target."""


class DeviceStage(PipelineStage[S, F, DeviceRun]):
    """Runs for each candidate and device."""
