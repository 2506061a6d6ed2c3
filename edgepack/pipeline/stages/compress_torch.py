"""``compress`` before the export: one step of a candidate on the torch module."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from pydantic import SerializeAsAny

from edgepack.compression import Context, Step, TorchMethod
from edgepack.engine.stage import Ingredients, Request, Skip, StageResult, Work
from edgepack.pipeline.candidates import method_of
from edgepack.pipeline.contract import ModelStage
from edgepack.pipeline.figures import SOURCE, StepFigures
from edgepack.pipeline.fingerprint import step_inputs
from edgepack.pipeline.stages import torch_models
from edgepack.pipeline.stages.samples import samples
from edgepack.pipeline.state import CandidateRun, Resources
from edgepack.spec import Data, Input, Spec
from edgepack.spec.candidate import RELEASE
from edgepack.torchnet.checkpoint import Change, Structure

_SOURCES = ("compression/__init__.py", "compression/method.py", "pipeline/stages/compress_torch.py")


class TorchStepSpec(Spec):
    """One step, on which source, with which samples."""

    source: str
    inputs: tuple[Input, ...]
    data: Data | None
    step: SerializeAsAny[Step]
    rebuilt: torch_models.Rebuilt  # the steps before it


class CompressTorchStage(ModelStage[TorchStepSpec, StepFigures]):
    """The steps that change the torch module."""

    name = "compress"
    figures = StepFigures

    def ingredients(self, spec: TorchStepSpec) -> Ingredients:
        """The method's own code and tools, those that restore what it starts from, and no other method's."""
        method = method_of(spec.step)
        rebuilt = torch_models.any_rebuilt() if method.files(spec.step) else spec.rebuilt
        return Ingredients(
            tuple(dict.fromkeys((*torch_models.TOOLS, *method.tools()))),
            tuple(dict.fromkeys((*torch_models.SOURCES, *_SOURCES, *method.code(), *rebuilt.sources))),
        )

    def requests(self, at: CandidateRun) -> Sequence[Callable[[], Request[TorchStepSpec] | Skip]]:
        """Each step on torch."""
        candidate = at.candidate
        if not candidate.steps and candidate.name == RELEASE:
            return (lambda: Skip("the recipe compresses nothing"),)
        steps = enumerate(candidate.steps)
        return [partial(self._step, at, i) for i, step in steps if isinstance(method_of(step), TorchMethod)]

    def _step(self, at: CandidateRun, number: int) -> Request[TorchStepSpec]:
        """The work of one step, on what those before it made."""
        steps, recipe = at.candidate.steps, at.plan.recipe
        step, method = steps[number], method_of(steps[number])
        earlier = (*at.changed_by, *(each.method for each in steps[:number]))
        spec = TorchStepSpec(
            source=recipe.model.source or "",
            inputs=at.inputs,
            data=recipe.data,
            step=step,
            rebuilt=torch_models.Rebuilt(methods=earlier),
        )
        files = {**at.files.code, **at.files.data, "checkpoint": at.artifacts["checkpoint"]}
        files |= step_inputs(method.files(step), at.plan.base)
        if any(need.kind == "teacher" for need in method.needs(step)):
            files["teacher"] = at.artifacts[SOURCE]
        return Request(spec, files, at.candidate.labels[number], aliases=(step.method,))

    def run(self, work: Work[TorchStepSpec, Resources]) -> StageResult[StepFigures]:
        """Restore the module, apply the method, and save what it made with all changes so far."""
        spec, base = work.spec, work.resources.base
        method = method_of(spec.step)
        if not isinstance(method, TorchMethod):
            raise TypeError(f"{method.name} is no method on torch")
        start = torch_models.restored(spec.source, base, work.inputs["checkpoint"])
        context = Context(
            spec.inputs,
            samples(spec.data, base),
            work.progress,
            files=method.files(spec.step),
            base=base,
            rebuilders=torch_models.rebuilders(),
        )
        if "teacher" in work.inputs:
            context = replace(
                context,
                teacher=lambda: torch_models.restored(spec.source, base, work.inputs["teacher"]).module,
            )
        found = Structure.of(start.module)
        result = method.apply(start.module, spec.step, context)
        changes = start.changes
        if result.change is not None:
            changes = (*changes, Change(method.name, result.change, found))
        files = torch_models.saved(result.module, work.scratch, method.name, changes)
        facts = torch_models.facts(result.module, spec.inputs, context.data, files)
        figures = StepFigures.of_step(method.name, "torch", result.metrics, facts)
        return StageResult(figures, files)
