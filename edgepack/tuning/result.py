"""The result of tuning."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from edgepack.spec import Count, Finite, Spec

StopReason = Literal["trials", "minutes", "settled", "exhausted"]
"""Why tuning ended: a limit of the budget, no more improvement beyond the noise, or no new candidates."""

KernelEnd = Literal["budget", "settled", "exhausted", "small"]
"""Why the search of one kernel ended: as above, or it is one of the smallest, 2 % of the model's time in total."""


@dataclass(frozen=True)
class KernelResult:
    """Result for one kernel of the model."""

    name: str
    workload: str  # structural hash, as in Compiled.kernels
    weight: int  # calls per inference
    trials: int  # measured candidates, including earlier runs
    untuned_ms: float  # with the family's fallback schedule
    noise: float  # relative spread of the fallback's timings
    best_ms: float | None  # the best candidate; None if none ran
    tuned: bool  # the best candidate beats the fallback by more than the noise and is used by compile_model
    ended: KernelEnd

    @property
    def predicted_ms(self) -> float:
        """Milliseconds per inference in this kernel, as compiled."""
        return self.weight * (self.best_ms if self.tuned and self.best_ms is not None else self.untuned_ms)


class CurvePoint(Spec):
    """The lowest sum of the kernels' latencies so far, over tuning time."""

    seconds: Finite = Field(ge=0)
    trials: Count
    predicted_ms: Finite = Field(ge=0)


@dataclass(frozen=True)
class TuneResult:
    """The result of ``tune``; sums are per inference."""

    target: str
    trials: int  # measured candidates of this model, including earlier runs
    new_trials: int
    failed: int  # new candidates that failed to build, crashed or timed out
    errors: tuple[tuple[str, int], ...]  # message and count, most frequent first
    seconds: float
    stopped: StopReason
    records: Path  # for compile_model(records=…): the best record of each tuned kernel
    kernels: tuple[KernelResult, ...]
    curve: tuple[CurvePoint, ...]

    @property
    def predicted_ms(self) -> float:
        """Sum over kernels of calls x best time, or fallback time if that is not improved."""
        return sum(kernel.predicted_ms for kernel in self.kernels)

    @property
    def untuned_ms(self) -> float:
        """The same sum with all kernels on their fallback."""
        return sum(kernel.weight * kernel.untuned_ms for kernel in self.kernels)

    @property
    def noise_ms(self) -> float:
        """Sum of the noise of all kernels: the uncertainty of ``untuned_ms``."""
        return sum(kernel.weight * kernel.noise * kernel.untuned_ms for kernel in self.kernels)

    @property
    def untuned(self) -> tuple[KernelResult, ...]:
        """Kernels that stay on their fallback, by predicted time in descending order."""
        rest = [kernel for kernel in self.kernels if not kernel.tuned]
        return tuple(sorted(rest, key=lambda kernel: -kernel.predicted_ms))

    @property
    def untuned_share(self) -> float:
        """Share (0..1) of the predicted runtime in kernels on their fallback."""
        total = self.predicted_ms
        return sum(kernel.predicted_ms for kernel in self.untuned) / total if total else 0.0

    @property
    def tuned_share(self) -> float:
        """Share (0..1) of the predicted runtime in tuned kernels."""
        return 1 - self.untuned_share

    @property
    def trials_per_minute(self) -> float:
        """Trials per minute of this run."""
        return 60 * self.new_trials / self.seconds if self.seconds else 0.0
