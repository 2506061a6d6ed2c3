"""``robustness``: the metric under a fixed set of corruptions, of the source and after every step."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from edgepack.engine.stage import Ingredients, Request, StageResult, Work
from edgepack.pipeline.candidates import method_of
from edgepack.pipeline.contract import ModelStage
from edgepack.pipeline.figures import RobustnessFigures
from edgepack.pipeline.stages import onnx_models, torch_models
from edgepack.pipeline.stages.samples import of_source, required_samples, source_outputs
from edgepack.pipeline.state import CandidateRun, MadeModel, Resources
from edgepack.spec import Data, Input, Metric, Robustness, Spec

if TYPE_CHECKING:
    import numpy as np

    from edgepack.data import Splits
    from edgepack.scoring.scorer import Tally


class RobustnessSpec(Spec):
    """The model, the samples, and what is done to them."""

    level: Literal["torch", "onnx"]
    of: str  # the step's name, which the figures are for
    source: str
    inputs: tuple[Input, ...]
    data: Data | None
    metric: Metric
    loss: str | None
    rebuilt: torch_models.Rebuilt
    settings: Robustness


class RobustnessStage(ModelStage[RobustnessSpec, RobustnessFigures]):
    """Scores a model on corrupted samples."""

    name = "robustness"
    figures = RobustnessFigures

    def ingredients(self, spec: RobustnessSpec) -> Ingredients:
        """The code that runs the model, and that corrupts samples."""
        own = ("pipeline/stages/robustness.py",)
        if spec.level == "onnx":
            return Ingredients(onnx_models.TOOLS, (*onnx_models.SOURCES, *own))
        sources = (*torch_models.SOURCES, "torchnet/adversarial.py", *spec.rebuilt.sources, *own)
        return Ingredients(torch_models.TOOLS, tuple(dict.fromkeys(sources)))

    def requests(self, at: CandidateRun) -> Sequence[Callable[[], Request[RobustnessSpec]]]:
        """One request for the source and one for each step, if the recipe asks for it."""
        settings = at.plan.recipe.robustness
        return () if settings is None else [partial(self._model, at, made, settings) for made in at.made]

    def _model(self, at: CandidateRun, made: MadeModel, settings: Robustness) -> Request[RobustnessSpec]:
        recipe = at.plan.recipe
        steps = () if made.level == "onnx" else at.candidate.steps[: at.made.index(made)]
        methods = (*at.changed_by, *(method_of(step).name for step in steps))
        attacked = made.level == "torch" and settings.fgsm is not None
        spec = RobustnessSpec(
            level=made.level,
            of=made.label,
            source=recipe.model.source or "",
            inputs=at.inputs,
            data=recipe.data,
            metric=recipe.scored_by,
            loss=recipe.loss if attacked else None,
            rebuilt=torch_models.Rebuilt(methods=methods if made.level == "torch" else ()),
            settings=settings if attacked else settings.model_copy(update={"fgsm": None}),
        )
        files = {**at.files.data, **at.files.metric, **of_source(at.artifacts), "model": made.artifact}
        if made.level == "torch":
            files |= {**at.files.code, **(at.files.loss if attacked else {})}
        return Request(spec, files, f"{self.name}: {made.label}", aliases=(self.name,))

    def run(self, work: Work[RobustnessSpec, Resources]) -> StageResult[RobustnessFigures]:
        """Run the model on every corruption at every severity."""
        from edgepack.scoring import Scorer

        spec, base = work.spec, work.resources.base
        scorer = Scorer(spec.metric, base)
        data, targets = _chosen(
            required_samples(spec.data, base, spec.inputs), source_outputs(work.inputs), spec.settings.samples
        )
        run, attacked = self._runner(work, data)
        tallies: dict[str, list[Tally]] = {}
        plans = _plans(data.x_test, spec.settings.severities)
        for number, (name, severity, x) in enumerate(plans):
            work.progress(f"{name}, severity {severity}", number / len(plans))
            tallies.setdefault(name, []).append(scorer.tally(run(x()), targets))
        flat = [tally for each in tallies.values() for tally in each]
        figures = RobustnessFigures(
            of=spec.of,
            score=scorer.mean(flat, targets) if flat else None,
            severities=spec.settings.severities,
            corruptions={name: tuple(tally.value for tally in each) for name, each in tallies.items()},
            fgsm=None if attacked is None else scorer.score(run(attacked), targets),
        )
        return StageResult(figures)

    def _runner(
        self, work: Work[RobustnessSpec, Resources], data: "Splits"
    ) -> "tuple[Callable[[Any], tuple[np.ndarray, ...]], Any]":
        """What runs the model, and the adversarial samples if they are wanted."""
        spec, base, path = work.spec, work.resources.base, work.inputs["model"]
        if spec.level == "onnx":
            from edgepack.export.reference import predict_all

            return partial(predict_all, path), None
        from edgepack.torchnet.outputs import all_outputs

        module = torch_models.restore_module(spec.source, base, path).module
        if spec.settings.fgsm is None:
            return partial(all_outputs, module), None
        from edgepack.torchnet.adversarial import fgsm
        from edgepack.torchnet.losses import loss_of

        moved = fgsm(module, data.x_test, data.y_test, loss_of(spec.loss, base), spec.settings.fgsm)
        return partial(all_outputs, module), _like(data.x_test, moved)


def _chosen(data: "Splits", source: "Sequence[np.ndarray] | None", wanted: int) -> "tuple[Splits, Any]":
    """Test samples evenly spaced over the split, and what the outputs are compared with."""
    from dataclasses import replace

    import numpy as np

    from edgepack.data.splits import count_samples, take
    from edgepack.errors import InputError

    count = count_samples(data.x_test)
    rows = np.linspace(0, count - 1, min(wanted, count)).astype(int)
    chosen = replace(data, x_test=take(data.x_test, rows), y_test=take(data.y_test, rows))
    targets = chosen.y_test
    if source is not None:
        targets = {str(number): array[rows] for number, array in enumerate(source)}
    if targets is None:
        raise InputError(
            "robustness needs targets, or a metric that compares with the source",
            where="robustness",
            next="give y_test, or set metric: agreement",
        )
    return chosen, targets


def _plans(x: Any, severities: Sequence[int]) -> "list[tuple[str, int, Callable[[], Any]]]":
    """Name, severity and samples of every corruption; all inputs that one applies to are corrupted."""
    from edgepack.data.splits import arrays_of
    from edgepack.scoring.corruptions import CORRUPTIONS, corrupt, kind_of

    arrays = arrays_of(x)
    kinds = [kind_of(array) for array in arrays]

    def corrupted(kind: Any, name: str, severity: int) -> Any:
        new = [
            corrupt(array, name, severity) if own == kind else array
            for array, own in zip(arrays, kinds, strict=True)
        ]
        return _like(x, new)

    return [
        (name, severity, partial(corrupted, kind, name, severity))
        for kind in dict.fromkeys(kinds)
        if kind is not None
        for name in CORRUPTIONS[kind]
        for severity in severities
    ]


def _like(x: Any, arrays: "Sequence[np.ndarray]") -> Any:
    return dict(zip(x, arrays, strict=True)) if isinstance(x, dict) else arrays[0]
