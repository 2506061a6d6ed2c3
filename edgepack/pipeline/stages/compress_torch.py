"""``compress`` before the export: one compression step of a candidate on the torch module."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import SerializeAsAny

from edgepack.compression import Context, Step, TorchMethod
from edgepack.engine.stage import Ingredients, Request, Skip, StageResult, Work
from edgepack.pipeline.candidates import method_of
from edgepack.pipeline.contract import ModelStage
from edgepack.pipeline.figures import SOURCE, StepFigures
from edgepack.pipeline.fingerprint import step_inputs
from edgepack.pipeline.stages import torch_models
from edgepack.pipeline.stages.samples import of_source, samples, samples_for, source_outputs, unlabelled
from edgepack.pipeline.stages.signature import Signature, unchanged_samples
from edgepack.pipeline.state import CandidateRun, Resources
from edgepack.spec import Data, Input, Metric, Spec
from edgepack.spec.candidate import RELEASE
from edgepack.torchnet.checkpoint import Change, Structure
from edgepack.torchnet.trainings import Trainings

_SOURCES = (
    "compression/__init__.py",
    "compression/context.py",
    "compression/method.py",
    "pipeline/stages/compress_torch.py",
    "pipeline/stages/signature.py",
)


class TorchStepSpec(Spec):
    """One compression step, with its source and samples."""

    source: str
    inputs: tuple[Input, ...]
    data: Data | None
    step: SerializeAsAny[Step]
    rebuilt: torch_models.Rebuilt  # the previous steps
    samples: str | None = None
    metric: Metric = Metric()
    loss: str | None = None
    lanes: int | None = None  # of the targets, if the result depends on them


class CompressTorchStage(ModelStage[TorchStepSpec, StepFigures]):
    """Runs the compression steps on torch."""

    name = "compress"
    figures = StepFigures

    def ingredients(self, spec: TorchStepSpec) -> Ingredients:
        """The code and tools of this method, and of those that restore its input module."""
        method = method_of(spec.step).on("torch")
        rebuilt = torch_models.any_rebuilt() if method.files(spec.step) else spec.rebuilt
        return Ingredients(
            tuple(dict.fromkeys((*torch_models.TOOLS, *method.tools()))),
            tuple(dict.fromkeys((*torch_models.SOURCES, *_SOURCES, *method.code(), *rebuilt.sources))),
        )

    def requests(self, at: CandidateRun) -> Sequence[Callable[[], Request[TorchStepSpec] | Skip]]:
        """One request for each step on torch."""
        candidate = at.candidate
        if not candidate.steps and candidate.name == RELEASE:
            return (lambda: Skip("the recipe compresses nothing"),)
        steps = enumerate(at.methods)
        return [
            partial(self._step, at, number, method)
            for number, method in steps
            if isinstance(method, TorchMethod)
        ]

    def _step(self, at: CandidateRun, number: int, method: TorchMethod[Any]) -> Request[TorchStepSpec]:
        """The request for one step, on the output of the previous ones."""
        steps, recipe = at.candidate.steps, at.plan.recipe
        step = steps[number]
        earlier = (*at.changed_by, *(each.method for each in steps[:number]))
        spec = TorchStepSpec(
            source=recipe.model.source or "",
            inputs=at.inputs,
            data=recipe.data,
            step=step,
            rebuilt=torch_models.Rebuilt.of(earlier, steps[:number]),
            samples=samples_for(method, step, recipe.samples, recipe.scored_by),
            metric=recipe.scored_by,
            loss=recipe.loss,
            lanes=at.plan.lanes if method.by_target(step) else None,
        )
        own = {} if spec.samples is None else at.files.samples
        files = {**at.files.code, **at.files.data, **own, "checkpoint": at.artifacts["checkpoint"]}
        files |= {**at.files.metric, **at.files.loss, **of_source(at.artifacts)}
        files |= torch_models.built_by(steps[:number], at.plan.base)
        files |= step_inputs(method.files(step), at.plan.base)
        if any(need.kind == "teacher" for need in method.needs(step)):
            files["teacher"] = at.artifacts[SOURCE]
        return Request(spec, files, at.candidate.labels[number], aliases=(step.method,))

    def run(self, work: Work[TorchStepSpec, Resources]) -> StageResult[StepFigures]:
        """Restore the module, apply the method, and save the result with all changes so far."""
        spec, base = work.spec, work.resources.base
        method = method_of(spec.step).on("torch")
        if not isinstance(method, TorchMethod):
            raise TypeError(f"{method.name} is not a method on torch")
        builders = spec.rebuilt.builders
        start = torch_models.restore_module(spec.source, base, work.inputs["checkpoint"], builders)
        named = method.files(spec.step)
        sources = (spec.source, *(file.value for file in named if file.kind == "callable"))
        trainings = Trainings(work.unfinished)
        context = Context(
            spec.inputs,
            samples(spec.data, base, spec.inputs),
            work.progress,
            samples=unlabelled(spec.samples, spec.inputs, base),
            files=named,
            base=base,
            rebuilders=torch_models.rebuilders(base, sources),
            metric=spec.metric,
            loss_name=spec.loss,
            source_outputs=source_outputs(work.inputs),
            lanes=spec.lanes or 1,
            trainings=trainings,
            trust=work.resources.trust,
        )
        if "teacher" in work.inputs:
            context = replace(
                context,
                teacher=lambda: torch_models.restore_module(spec.source, base, work.inputs["teacher"]).module,
            )
        found, signature = Structure.of(start.module), Signature.of_module(start.module, spec.inputs)
        with unchanged_samples(context, spec.step, method):
            result = method.apply(start.module, spec.step, context)
        signature.require_of_module(result.module, spec.inputs, spec.step, method)
        changes = start.changes
        if result.change is not None and method.builds is not None:
            changes = (Change(method.name, result.change),)  # of the module before, nothing is left
        elif result.change is not None:
            changes = (*changes, Change(method.name, result.change, found))
        files = torch_models.save_module(result.module, work.scratch, method.name, changes)
        facts = torch_models.facts(result.module, spec.inputs, context.evaluation, files)
        figures = StepFigures.of_step(
            spec.step, "torch", result.metrics, facts, trainings=trainings.records, notes=context.notes
        )
        return StageResult(figures, files)
