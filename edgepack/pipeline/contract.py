"""A stage of the pipeline: the engine's contract, and which work it has for a candidate.

``requests`` is asked when everything before the stage is done; it is a generator, resumed after each piece of work
with what that made already in the run it was given. It yields a Skip where leaving the stage out is worth telling,
and nothing where there is nothing to do.
"""

from abc import abstractmethod
from collections.abc import Iterator

from edgepack.engine.stage import F, Request, S, Skip, Stage
from edgepack.pipeline.state import CandidateRun, DeviceRun, Resources, TargetRun

NO_DEVICE = "the recipe names no device for this target"


class ModelStage(Stage[S, F, Resources]):
    """Runs for a candidate; candidates that begin with the same steps share its results."""

    @abstractmethod
    def requests(self, at: CandidateRun) -> Iterator[Request[S] | Skip]:
        """The work for a candidate."""


class TargetStage(Stage[S, F, Resources]):
    """Runs for each candidate and target."""

    @abstractmethod
    def requests(self, at: TargetRun) -> Iterator[Request[S] | Skip]:
        """The work for a candidate and a target."""


class DeviceStage(Stage[S, F, Resources]):
    """Runs for each candidate and device."""

    @abstractmethod
    def requests(self, at: DeviceRun) -> Iterator[Request[S] | Skip]:
        """The work for a candidate and a device."""
