"""What ``tune`` tells its caller while it works, one frozen dataclass an event."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Phase = Literal["search", "build", "transfer", "measure"]


class Span(NamedTuple):
    """A stretch of time: ``time.monotonic()`` at both ends."""

    began: float
    ended: float


@dataclass(frozen=True)
class TuningStarted:
    """The kernels are known; ``trials_done`` were in the store already and count towards the budget."""

    kernels: int
    trials_done: int
    trials_wanted: int | None
    minutes: float | None


@dataclass(frozen=True)
class UntunedMeasured:
    """One more kernel was timed under its fallback schedule; done once a kernel, and no trial."""

    done: int
    kernels: int


@dataclass(frozen=True)
class BatchMeasured:
    """A batch of candidates of one kernel is back from the board."""

    kernel: str
    trials: int  # measured candidates of this model so far, earlier runs included
    trials_wanted: int | None
    failed: int  # candidates of this run that did not build, crashed or ran out of time
    seconds: float  # since this run began
    seconds_left: float | None  # until the budget is used at the present pace
    kernel_ms: float  # the kernel's best
    predicted_ms: float  # sum over all kernels of calls x best, or untuned time
    untuned_ms: float  # the same sum with every kernel untuned
    tuned_share: float  # 0..1, of predicted_ms, spent in kernels with a record better than untuned


@dataclass(frozen=True)
class CandidateMeasured:
    """One candidate has its answer and its record; comes from the builder's or the runner's thread."""

    workload: str  # structural hash of the kernel, as in KernelResult
    seconds: float  # since this run began
    ms: float | None  # the least of its repeats; None: it did not build, crashed or ran out of time


@dataclass(frozen=True)
class PhaseEnded:
    """A piece of work is done, of a trial or a fallback; comes from the thread that saw it end.

    Phases overlap: one kernel is searched while the candidates of another are built and measured. ``transfer``
    is the sending of one library; ``measure`` begins when the board has it and the answer before it was in.
    """

    phase: Phase
    began: float  # seconds since this run began
    ended: float


@dataclass(frozen=True)
class ConnectionLost:
    """The board stopped answering; the next attempt follows after ``wait_s`` seconds."""

    why: str
    attempt: int
    wait_s: float


@dataclass(frozen=True)
class Reconnected:
    """The board answers again; ``retried`` candidates were in flight and are sent once more."""

    retried: int


TuneEvent = (
    TuningStarted
    | UntunedMeasured
    | BatchMeasured
    | CandidateMeasured
    | PhaseEnded
    | ConnectionLost
    | Reconnected
)
