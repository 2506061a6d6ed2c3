"""The report of a trace: a fold over typed events. Equal events give equal reports."""

import json
from collections.abc import Callable, Iterable
from typing import TypeVar

from edgepack.engine.events import StageEnded
from edgepack.pipeline.figures import (
    SOURCE,
    EvaluateFigures,
    MadeFigures,
    RobustnessFigures,
    SourceFigures,
    StepFigures,
)
from edgepack.pipeline.stages.bench import BenchFigures
from edgepack.pipeline.stages.package import PackageFigures
from edgepack.pipeline.stages.tune import TuneFigures
from edgepack.pipeline.trace import (
    CandidateNotBuilt,
    CandidatePromoted,
    Placement,
    RunEnded,
    RunInterrupted,
    RunStarted,
    TraceEvent,
)
from edgepack.reporting.builder import ReportBuilder
from edgepack.reporting.document import ModelRow, Outcome, Report, TuningRow
from edgepack.reporting.figures import BUILT
from edgepack.spec import ModelFigures, Score, Spec
from edgepack.spec.candidate import RELEASE
from edgepack.spec.encoding import DENSE, ConstantSummary

F = TypeVar("F", bound=Spec)

_NO_LABELS = "the recipe has no labelled data"
_NOT_FINITE = "an output held NaN or infinity"


def fold(events: Iterable[TraceEvent]) -> Report:
    """The report of a run.

    Raises:
        ValueError: the first event is not ``RunStarted``.
    """
    begun, *rest = events
    if not isinstance(begun, RunStarted):
        raise ValueError("a trace starts with RunStarted")  # noqa: TRY004 - an invalid value, not an invalid type
    folded = _Fold(begun)
    for event in rest:
        folded.add(event)
    return folded.report()


class _Fold:
    """The report so far, and figures of candidates that have no rows yet."""

    def __init__(self, begun: RunStarted) -> None:
        self._begun = begun
        self._seconds = 0.0
        self._torch_score: dict[str, Score | None] = {}
        self._robust: dict[str, Score | None] = {}
        self._evaluated: dict[str, EvaluateFigures] = {}
        self._source_known = False
        self._notes: tuple[str, ...] = ()  # on the source, and so on all candidates
        self._warnings: dict[str, tuple[str, ...]] = {}  # on the steps of each candidate
        self._builder = ReportBuilder(
            run_id=begun.run_id,
            recipe=begun.recipe,
            started=begun.started,
            tools=begun.tools,
            host=begun.host,
            until=begun.until,
        )

    def add(self, event: TraceEvent) -> None:
        """Add one event."""
        if isinstance(event, StageEnded):
            self._stage(event)
        elif isinstance(event, CandidatePromoted):
            for place in self._begun.placements:
                self._open_row(place, event.candidate)
        elif isinstance(event, CandidateNotBuilt):
            for place in self._placements(event.target):
                self._builder.add_missing(
                    place.target, event.candidate, event.why, *BUILT, device=place.device
                )
        elif isinstance(event, RunInterrupted):
            self._builder.add_error(event.error)
        elif isinstance(event, RunEnded):
            self._seconds = event.seconds

    def report(self) -> Report:
        """The report of the events so far."""
        # A partial run has not measured the figures of the release's gates.
        self._builder.check_gates(self._begun.gates, steps_only=self._begun.until != "bench")
        return self._builder.build(self._seconds)

    def _stage(self, event: StageEnded) -> None:
        scope = event.scope
        if event.status != "shared":
            self._builder.add_outcome(
                Outcome(
                    stage=scope.label,
                    target=scope.target,
                    candidate=scope.listed_candidate,
                    device=scope.device,
                    status=event.status,
                    seconds=event.seconds,
                    started=event.started,
                    why=event.why,
                    artifacts=event.artifacts,
                )
            )
        if event.error is not None:
            self._builder.add_error(event.error)
        if event.figures is not None and scope.stage in _FIGURES:
            _FIGURES[scope.stage](self, event, scope.candidate or RELEASE)

    def add_source(self, event: StageEnded, candidate: str) -> None:
        """The original model, the same for every candidate."""
        found = _typed(event, SourceFigures)
        if not self._source_known:
            self._builder.add_compression(_row(SOURCE, found))
            self._source_known = True
            self._notes = found.warnings
        self._torch_score[candidate] = found.score if found.level == "torch" else None

    def add_step(self, event: StageEnded, candidate: str) -> None:
        """The model after a compression step; the release's steps are named by their labels only."""
        found = _typed(event, StepFigures)
        if event.status != "shared":
            label = event.scope.label
            name = label if candidate == RELEASE else f"{candidate}: {label}"
            self._builder.add_compression(_row(name, found))
        told = (f"{event.scope.label}: {warning}" for warning in found.warnings)
        self._warnings[candidate] = (*self._warnings.get(candidate, ()), *told)
        if found.level == "torch":
            self._torch_score[candidate] = found.score

    def add_robustness(self, event: StageEnded, candidate: str) -> None:
        """The metric under corruption, after one step."""
        found = _typed(event, RobustnessFigures)
        self._robust[candidate] = found.score
        if found.of == SOURCE or candidate == RELEASE:
            self._builder.add_robustness(found)

    def add_evaluation(self, event: StageEnded, candidate: str) -> None:
        """Figures in onnxruntime, before anything is built for a target."""
        found = self._evaluated[candidate] = _typed(event, EvaluateFigures)
        if candidate == RELEASE and found.encodings.keys() - {DENSE}:
            self._builder.add_encodings(found.encodings)

    def add_tuning(self, event: StageEnded, candidate: str) -> None:
        """The tuning, measured on the first of the target's devices."""
        found, target = _typed(event, TuneFigures), event.scope.target
        self._builder.add_tuning(
            TuningRow(
                target=target or "",
                candidate=candidate,
                emulated=any(place.emulated for place in self._placements(target)[:1]),
                trials=found.trials,
                seconds=found.seconds,
                stopped=found.stopped,
                untuned_ms=found.untuned_ms,
                predicted_ms=found.predicted_ms,
                noise_ms=found.noise_ms,
                tuned_share=found.tuned_share,
                curve=found.curve,
                kernels=found.kernels,
            )
        )

    def add_library(self, event: StageEnded, candidate: str) -> None:
        """The compiled library, the same for all devices of a target."""
        constants = [
            ConstantSummary.model_validate(each) for each in (event.figures or {}).get("constants", ())
        ]
        sizes = {
            "compiled_size": _size(event, "compiled-model", "weights"),
            "weights_size": _size(event, "weights") or sum(each.stored_bytes for each in constants),
            "weights_memory": sum(each.resident_bytes for each in constants),
        }
        for place in self._placements(event.scope.target):
            self._builder.add_row(place.target, candidate, device=place.device, **sizes)
            warnings = (event.figures or {}).get("warnings", ())  # traces of older versions have none
            self._builder.add_warnings(place.target, candidate, *warnings, device=place.device)

    def add_bundle(self, event: StageEnded, candidate: str) -> None:
        """The bundle, the same for all devices of a target."""
        figures = {
            "bundle_size": _size(event, "bundle"),
            "bundle_digest": _typed(event, PackageFigures).digest,
        }
        for place in self._placements(event.scope.target):
            self._builder.add_row(place.target, candidate, device=place.device, **figures)

    def add_measurement(self, event: StageEnded, candidate: str) -> None:
        """The measurement on one device."""
        found, target, device = _typed(event, BenchFigures), event.scope.target or "", event.scope.device
        answers = found.answers
        self._builder.add_row(
            target,
            candidate,
            device=device,
            measurement=found.measurement,
            score_board=answers.score,
            score_same=answers.reference_score,
            board_samples=answers.samples,
            parity=answers.parity,
            profile=found.profile,
        )
        if found.not_profiled is not None:
            self._builder.add_missing(target, candidate, found.not_profiled, "profile", device=device)
        if answers.score is None:
            self._builder.add_missing(
                target, candidate, answers.why or _NO_LABELS, "score_board", device=device
            )
        if answers.parity is None:
            self._builder.add_missing(target, candidate, answers.why or _NOT_FINITE, "parity", device=device)

    def _open_row(self, place: Placement, candidate: str) -> None:
        """Fill in the figures of a row that are known before anything is built for its target."""
        figures, torch = self._evaluated[candidate], self._torch_score.get(candidate)
        self._builder.add_row(
            place.target,
            candidate,
            device=place.device,
            emulated=place.emulated,
            onnx_size=figures.size,
            parameters=figures.parameters,
            nonzeros=figures.nonzeros,
            macs=figures.macs,
            score_torch=torch,
            score_onnxruntime=figures.score,
            robust=self._robust.get(candidate),
            chance=figures.chance,
            rounding=figures.rounding,
            warnings=(*self._notes, *self._warnings.get(candidate, ()), *figures.warnings),
        )
        missing: tuple[str, ...] = ()
        why = _NO_LABELS
        if figures.score is None:
            missing = ("score_torch", "score_onnxruntime")
        elif torch is None:
            missing, why = ("score_torch",), "the model is an .onnx file"
        self._builder.add_missing(place.target, candidate, why, *missing, device=place.device)

    def _placements(self, target: str | None) -> list[Placement]:
        return [place for place in self._begun.placements if place.target == target]


_FIGURES: dict[str, Callable[[_Fold, StageEnded, str], None]] = {
    "train": _Fold.add_source,
    "load": _Fold.add_source,
    "compress": _Fold.add_step,
    "robustness": _Fold.add_robustness,
    "evaluate": _Fold.add_evaluation,
    "tune": _Fold.add_tuning,
    "compile": _Fold.add_library,
    "package": _Fold.add_bundle,
    "bench": _Fold.add_measurement,
}
"""The handler of each stage's figures."""


def _row(stage: str, made: MadeFigures) -> ModelRow:
    """The model after a stage, with what its method says of it."""
    metrics = made.metrics if isinstance(made, StepFigures) else {}
    facts = ModelFigures.of(stage, made).model_dump()
    return ModelRow(**facts, metrics=metrics, seeds=made.seeds, trainings=made.trainings)


def _typed(event: StageEnded, kind: type[F]) -> F:
    """A stage's figures as its own type."""
    return kind.model_validate_json(json.dumps(event.figures))


def _size(event: StageEnded, *kinds: str) -> int | None:
    sizes = [artifact.size for artifact in event.artifacts if artifact.kind in kinds]
    return sum(sizes) if sizes else None
