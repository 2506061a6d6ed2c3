"""``sensitivity``: compress one layer at a time and compare the outputs; not a stage of a run."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import Field

from edgepack.compression.context import Context
from edgepack.engine.stage import Ingredients, Request, StageResult, Work
from edgepack.pipeline.contract import ModelStage
from edgepack.pipeline.stages import onnx_models, torch_models
from edgepack.pipeline.stages.samples import of_source, samples, source_outputs, unlabelled
from edgepack.pipeline.state import CandidateRun, Resources
from edgepack.spec import Count, Data, Finite, Input, Metric, Spec
from edgepack.spec.sensitivity import LayerSensitivity, ProbeKind

if TYPE_CHECKING:
    import numpy as np

    Score = Callable[[list[np.ndarray]], float]

SOURCES = (
    "compression/batches.py",
    "compression/calibration.py",
    "compression/feeding.py",
    "compression/context.py",
    "compression/sensitivity",
    "pipeline/stages/sensitivity.py",
    "spec/sensitivity.py",
)


class SensitivitySpec(Spec):
    """The model, its samples and the metric, and what is tried."""

    source: str | None
    inputs: tuple[Input, ...]
    data: Data | None
    samples: str | None
    metric: Metric
    rebuilt: torch_models.Rebuilt
    count: int
    probes: tuple[ProbeKind, ...]


class SensitivityFigures(Spec):
    """Every layer of a model, and what each probe of it does to the outputs."""

    layers: tuple[LayerSensitivity, ...]
    samples: Count = Field(
        description="Inferences that the outputs are compared on, or samples of the training split."
    )
    made_up: bool = Field(
        description="Whether these are made up, because the recipe has neither data nor samples."
    )
    metric: str | None = Field(default=None, description="The metric, if there is something to compare with.")
    higher_is_better: bool = True
    reference: Finite | None = Field(default=None, description="The metric of the unchanged model.")


class SensitivityStage(ModelStage[SensitivitySpec, SensitivityFigures]):
    """Scans the original model."""

    name = "sensitivity"
    figures = SensitivityFigures

    def __init__(self, count: int, probes: tuple[ProbeKind, ...]) -> None:
        """Scan with ``count`` samples and these kinds of probes."""
        self._count, self._probes = count, probes

    def ingredients(self, spec: SensitivitySpec) -> Ingredients:
        """The code of the scan, and of what loads the model."""
        if spec.source is None:
            return Ingredients(onnx_models.TOOLS, (*onnx_models.SOURCES, *SOURCES))
        sources = (*torch_models.SOURCES, *spec.rebuilt.sources, *SOURCES)
        return Ingredients((*torch_models.TOOLS, "onnx"), tuple(dict.fromkeys(sources)))

    def request(self, at: CandidateRun) -> Request[SensitivitySpec]:
        """The scan of the model that ``load`` or ``train`` has made."""
        recipe = at.plan.recipe
        role = "onnx" if recipe.model.onnx is not None else "checkpoint"
        spec = SensitivitySpec(
            source=recipe.model.source if recipe.model.onnx is None else None,
            inputs=at.inputs,
            data=recipe.data,
            samples=recipe.samples,
            metric=recipe.scored_by,
            rebuilt=torch_models.Rebuilt(methods=at.changed_by),
            count=self._count,
            probes=self._probes,
        )
        files = {**at.files.code, **at.files.data, **at.files.samples, **at.files.metric}
        return Request(spec, {**files, **of_source(at.artifacts), role: at.artifacts[role]})

    def run(self, work: Work[SensitivitySpec, Resources]) -> StageResult[SensitivityFigures]:
        """Scan every layer."""
        from edgepack.compression.batches import BATCH, training_feeds
        from edgepack.compression.feeding import feeds_of_file
        from edgepack.compression.sensitivity.onnx_level import OnnxSubject
        from edgepack.compression.sensitivity.probes import PROBES
        from edgepack.compression.sensitivity.scan import Subject, scan
        from edgepack.compression.sensitivity.torch_level import TorchSubject

        spec, base = work.spec, work.resources.base
        context = Context(
            spec.inputs,
            samples(spec.data, base, spec.inputs),
            samples=unlabelled(spec.samples, spec.inputs, base),
            base=base,
            metric=spec.metric,
            source_outputs=source_outputs(work.inputs),
        )
        subject: Subject
        if spec.source is None:
            feeds = feeds_of_file(work.inputs["onnx"], context, spec.count)
            subject = OnnxSubject(work.inputs["onnx"], feeds)
        else:
            feeds = training_feeds(context, spec.count, batch=BATCH)
            module = torch_models.restore_module(spec.source, base, work.inputs["checkpoint"]).module
            subject = TorchSubject(module, feeds)
        reference = subject.run()
        scoring = _scoring(context, spec.count, reference)
        probes = [probe for probe in PROBES if probe.kind in spec.probes]
        layers = scan(subject, probes, score=scoring and scoring[0], progress=work.progress)
        labelled = context.data is not None
        return StageResult(
            SensitivityFigures(
                layers=layers,
                samples=len(reference[0]) if labelled else len(feeds),
                made_up=not labelled and context.samples is None,
                metric=scoring and scoring[1],
                higher_is_better=scoring[2] if scoring else True,
                reference=scoring[0](reference) if scoring else None,
            )
        )


def _scoring(context: Context, count: int, reference: "list[np.ndarray]") -> "tuple[Score, str, bool] | None":
    """The metric of outputs for the training samples, its name, and whether more is better; None without targets."""
    from edgepack.compression.batches import training_rows
    from edgepack.data.splits import count_samples, take
    from edgepack.scoring import Scorer

    scorer = Scorer(context.metric, context.base)
    if scorer.of_source:
        targets = {str(number): output for number, output in enumerate(reference)}
    elif context.data is not None and context.data.y_train is not None:
        rows = training_rows(count_samples(context.data.x_train), count, 0)[: len(reference[0])]
        targets = take(context.data.y_train, rows)
    else:
        return None
    return (
        lambda outputs: scorer.value(outputs, targets),
        scorer.name(targets),
        scorer.higher_is_better(targets),
    )
