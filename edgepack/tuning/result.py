"""What tuning found."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from edgepack.spec import Count, Finite, Spec

StopReason = Literal["trials", "minutes", "settled", "exhausted"]
"""Why tuning ended: a limit of the budget, no kernel gains beyond noise any more, or there is nothing new to try."""

KernelEnd = Literal["budget", "settled", "exhausted", "small"]
"""Why the search for one kernel ended: as above, or it is among the smallest, which take 2 % of the model together."""


@dataclass(frozen=True)
class KernelResult:
    """One kernel of the model."""

    name: str
    workload: str  # structural hash, as in Compiled.kernels
    weight: int  # calls an inference
    trials: int  # measured candidates, earlier runs included
    untuned_ms: float  # the family's fallback schedule
    noise: float  # relative: how far timings of the fallback lay apart
    best_ms: float | None  # the best candidate; None if none ran
    tuned: bool  # the best candidate beats the fallback by more than noise, and compile_model will use it
    ended: KernelEnd

    @property
    def predicted_ms(self) -> float:
        """Milliseconds of one inference spent in this kernel, as it will be compiled."""
        return self.weight * (self.best_ms if self.tuned and self.best_ms is not None else self.untuned_ms)


class CurvePoint(Spec):
    """The best known sum of the kernels' latencies after so much tuning."""

    seconds: Finite = Field(ge=0)
    trials: Count
    predicted_ms: Finite = Field(ge=0)


@dataclass(frozen=True)
class TuneResult:
    """The outcome of ``tune``; sums are per inference."""

    target: str
    trials: int  # measured candidates of this model, earlier runs included
    new_trials: int
    failed: int  # of the new ones: did not build, crashed, or ran out of time
    errors: tuple[tuple[str, int], ...]  # why, and how often, the most frequent first
    seconds: float
    stopped: StopReason
    records: Path  # for compile_model(records=…): the best record of each tuned kernel
    kernels: tuple[KernelResult, ...]
    curve: tuple[CurvePoint, ...]

    @property
    def predicted_ms(self) -> float:
        """Sum over kernels of calls x best, or fallback where nothing better was found."""
        return sum(kernel.predicted_ms for kernel in self.kernels)

    @property
    def untuned_ms(self) -> float:
        """The same sum with every kernel on its fallback."""
        return sum(kernel.weight * kernel.untuned_ms for kernel in self.kernels)

    @property
    def noise_ms(self) -> float:
        """The noise of all kernels, added up: what ``untuned_ms`` may be off by."""
        return sum(kernel.weight * kernel.noise * kernel.untuned_ms for kernel in self.kernels)

    @property
    def untuned(self) -> tuple[KernelResult, ...]:
        """The kernels that stay on their fallback, the heaviest first."""
        rest = [kernel for kernel in self.kernels if not kernel.tuned]
        return tuple(sorted(rest, key=lambda kernel: -kernel.predicted_ms))

    @property
    def untuned_share(self) -> float:
        """Share (0..1) of the predicted runtime that is spent in kernels on their fallback."""
        total = self.predicted_ms
        return sum(kernel.predicted_ms for kernel in self.untuned) / total if total else 0.0

    @property
    def tuned_share(self) -> float:
        """Share (0..1) of the predicted runtime that is spent in tuned kernels."""
        return 1 - self.untuned_share

    @property
    def trials_per_minute(self) -> float:
        """Throughput of this run."""
        return 60 * self.new_trials / self.seconds if self.seconds else 0.0
