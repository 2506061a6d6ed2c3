"""Progress events of ``tune``, as frozen dataclasses."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Phase = Literal["search", "build", "transfer", "measure"]


class Span(NamedTuple):
    """An interval of ``time.monotonic()``."""

    began: float
    ended: float


@dataclass(frozen=True)
class TuningStarted:
    """Kernels were extracted; ``trials_done`` earlier trials are in the store and count towards the budget."""

    kernels: int
    trials_done: int
    trials_wanted: int | None
    minutes: float | None


@dataclass(frozen=True)
class UntunedMeasured:
    """Another kernel was timed with its fallback schedule; once per kernel, not counted as a trial."""

    done: int
    kernels: int


@dataclass(frozen=True)
class BatchMeasured:
    """A batch of candidates of one kernel was measured on the board."""

    kernel: str
    trials: int  # measured candidates of this model so far, including earlier runs
    trials_wanted: int | None
    failed: int  # candidates of this run that failed to build, crashed or timed out
    seconds: float  # since the start of this run
    seconds_left: float | None  # until the budget is used, at the current rate
    kernel_ms: float  # best time of the kernel
    predicted_ms: float  # sum over all kernels of calls x best time, or fallback time
    untuned_ms: float  # the same sum with all kernels untuned
    tuned_share: float  # share (0..1) of predicted_ms in kernels with a record better than the fallback


@dataclass(frozen=True)
class CandidateMeasured:
    """One candidate was measured and recorded; emitted from the builder's or the runner's thread."""

    workload: str  # structural hash of the kernel, as in KernelResult
    seconds: float  # since the start of this run
    ms: float | None  # minimum of its repeats; None: it failed to build, crashed or timed out


@dataclass(frozen=True)
class PhaseEnded:
    """A phase of a trial or of a fallback measurement ended; emitted from the thread that observed it.

    Phases overlap: one kernel is searched while candidates of another are built and measured. ``transfer``
    is the upload of one candidate; ``measure`` begins when the board has it and the previous result has arrived.
    """

    phase: Phase
    began: float  # seconds since the start of this run
    ended: float


@dataclass(frozen=True)
class ConnectionLost:
    """The board stopped responding; the next attempt follows after ``wait_s`` seconds."""

    why: str
    attempt: int
    wait_s: float


@dataclass(frozen=True)
class Reconnected:
    """The board responds again; ``retried`` candidates were in flight and are sent again."""

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
