"""``tune``: measure candidates for the model's kernels, on the target's first device."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from pydantic import Field

from edgepack.base.progress import Progress
from edgepack.config.recipe import Tune
from edgepack.config.target import Target
from edgepack.engine.stage import Ingredients, Output, Request, Skip, StageResult, Work
from edgepack.pipeline.contract import TargetStage
from edgepack.pipeline.emulated_gpu import CODE, gpu_for_candidates
from edgepack.pipeline.stages import records
from edgepack.pipeline.state import Resources, TargetRun
from edgepack.spec import Count, Finite, Share, Spec
from edgepack.tuning.result import CurvePoint, KernelEnd, StopReason, TuneResult

if TYPE_CHECKING:
    from edgepack.remote.boards import Boards
    from edgepack.remote.session import Session
    from edgepack.tuning import BoardRunner
    from edgepack.tuning.events import TuneEvent


class TuneSpec(Spec):
    """The kind of board and the budget. The individual device does not matter."""

    target: Target
    tune: Tune
    emulated: bool


class TunedKernel(Spec):
    """One kernel, weighted by how often the model calls it."""

    name: str
    tuned: bool = Field(
        description="Whether its best candidate is faster than the fallback by more than the noise."
    )
    best_ms: Finite | None = Field(
        default=None, ge=0, description="Time of one call with the fastest candidate."
    )
    share: Share | None = Field(default=None, description="Share of the predicted runtime.")
    trials: Count = 0
    untuned_ms: Finite | None = Field(
        default=None, ge=0, description="Time of one call with the fallback schedule."
    )
    noise: Finite | None = Field(
        default=None, ge=0, description="Spread of the fallback's timings, relative to the smallest."
    )
    ended: KernelEnd | None = Field(default=None, description="Why the search for this kernel ended.")


class TuneFigures(Spec):
    """A tuning's outcome; sums are per inference."""

    trials: Count = Field(description="Measured candidates of this model, including earlier runs.")
    new_trials: Count
    failed: Count = Field(description="Time spent on new trials.")
    seconds: Finite = Field(ge=0)
    stopped: StopReason
    tuned_share: Share = Field(description="Tuned kernels' share of the predicted runtime.")
    predicted_ms: Finite
    untuned_ms: Finite
    noise_ms: Finite | None = Field(
        default=None, ge=0, description="Uncertainty of untuned_ms: the sum of the kernels' noise."
    )
    curve: tuple[CurvePoint, ...]
    kernels: tuple[TunedKernel, ...]

    @classmethod
    def of(cls, result: TuneResult) -> Self:
        """Convert the result of the tuner."""
        total = result.predicted_ms or 1.0
        kernels = (
            TunedKernel(
                name=kernel.name,
                tuned=kernel.tuned,
                best_ms=kernel.best_ms,
                share=min(1.0, kernel.predicted_ms / total),
                trials=kernel.trials,
                untuned_ms=kernel.untuned_ms,
                noise=kernel.noise,
                ended=kernel.ended,
            )
            for kernel in result.kernels
        )
        return cls(
            trials=result.trials,
            new_trials=result.new_trials,
            failed=result.failed,
            seconds=result.seconds,
            stopped=result.stopped,
            tuned_share=min(
                1.0, max(0.0, result.tuned_share)
            ),  # rounding may leave a sum slightly outside 0 to 1
            predicted_ms=result.predicted_ms,
            untuned_ms=result.untuned_ms,
            noise_ms=result.noise_ms,
            curve=result.curve,
            kernels=tuple(kernels),
        )


class TuneStage(TargetStage[TuneSpec, TuneFigures]):
    """Measures kernels on a board; its records are an input of ``compile``."""

    name = "tune"
    figures = TuneFigures

    def ingredients(self, spec: TuneSpec) -> Ingredients:
        """The code that generates candidates, and the CUDA compiler if kernels use it."""
        emulation = CODE if spec.emulated and spec.target.gpu else ()
        return records.ingredients(spec.target, "agent", "pipeline/stages/tune.py", "tuning", *emulation)

    def request(self, at: TargetRun) -> Request[TuneSpec] | Skip:
        """Tuning, if there is a budget and a device to measure on."""
        target = at.target
        budget = at.budget or target.tune
        if not budget.trials and budget.minutes is None:
            return Skip(self._without("the budget is 0 trials", at))
        if not target.devices:
            return Skip(self._without("the recipe names no device for this target to measure on", at))
        spec = TuneSpec(target=target.target.measured, tune=target.tune, emulated=at.emulated)
        return Request(spec, {"onnx": at.model.artifacts["onnx"]})

    def run(self, work: Work[TuneSpec, Resources]) -> StageResult[TuneFigures]:
        """Search and measure; records of earlier runs are used."""
        from edgepack.tuning import RecordStore, tune

        asked, resources = work.spec.tune, work.resources
        budget = asked
        if resources.budget is not None:
            # `edgepack tune` overrides the recipe's budget, but not its search settings.
            limits = {"trials": resources.budget.trials, "minutes": resources.budget.minutes}
            budget = asked.model_copy(update=limits)
        with (
            gpu_for_candidates(resources.boards, resources.device) as gpu,
            tuning_runner(resources.boards, resources.device)(work.spec.target) as runner,
        ):
            result = tune(
                work.inputs["onnx"],
                work.spec.target,
                runner,
                trials=budget.trials or None,
                minutes=budget.minutes,
                patience=budget.patience,
                seed=budget.seed,
                store=RecordStore.of_user(emulated=work.spec.emulated),
                emulated_gpu=gpu,
                progress=lambda event: _tell(work.progress, event),
            )
        files = {name: Output(result.records / name, "tuning-records", name) for name in records.FILES}
        # A result with a smaller budget than the recipe's is not reused: the next run measures the rest.
        keep = resources.budget is None or suffices(result, asked)
        return StageResult(TuneFigures.of(result), files, keep=keep)

    def _without(self, why: str, at: TargetRun) -> str:
        from edgepack.tuning.store import RecordStore

        nothing = not RecordStore.of_user(emulated=at.emulated).files(at.target.target)
        return f"{why}; all kernels use their family's schedule" if nothing else why


def suffices(result: TuneResult, asked: Tune) -> bool:
    """Whether tuning with another budget covered the budget ``asked``."""
    trials = asked.trials > 0 and result.trials >= asked.trials
    minutes = asked.minutes is not None and result.seconds >= 60 * asked.minutes
    return trials or minutes or result.stopped in {"settled", "exhausted"}


def tuning_runner(boards: "Boards", name: str) -> "Callable[[Target], BoardRunner]":
    """A factory of the runner that measures candidates on the device ``name``."""

    def make(target: Target) -> "BoardRunner":
        from edgepack.remote.tools import ensure_tools
        from edgepack.tuning import BoardRunner

        def connect() -> "tuple[Session, str]":
            session = boards.new_session(name)
            try:
                return session, ensure_tools(session, target, boards.device(name).work_dir)
            except BaseException:
                session.close()
                raise

        return BoardRunner(
            connect, target.tune, device=target.device_kind, shares_host=boards.identify(name).virtual
        )

    return make


def _tell(progress: Progress, event: "TuneEvent") -> None:
    from edgepack.tuning import events

    if isinstance(event, events.BatchMeasured):
        wanted = f"/{event.trials_wanted}" if event.trials_wanted else ""
        left = "" if event.seconds_left is None else f", {_clock(event.seconds_left)} left"
        share = event.trials / event.trials_wanted if event.trials_wanted else None
        progress(
            f"{event.trials}{wanted} trials, {event.untuned_ms:.3g} → {event.predicted_ms:.3g} ms predicted, "
            f"{event.tuned_share:.0%} of runtime tuned{left}",
            None if share is None else min(share, 1.0),
        )
    elif isinstance(event, events.UntunedMeasured):
        progress(f"{event.done}/{event.kernels} kernels timed untuned", None)
    elif isinstance(event, events.TuningStarted):
        progress(f"{event.kernels} kernels, {event.trials_done} trials on record", None)
    elif isinstance(event, events.ConnectionLost):
        progress(f"connection lost ({event.why}); attempt {event.attempt} in {event.wait_s:.0f} s", None)
    elif isinstance(event, events.Reconnected):
        progress(f"reconnected, retrying {event.retried} candidates", None)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
