"""``compress`` after the export: one step of a candidate on the .onnx file."""

from collections.abc import Iterator

from pydantic import SerializeAsAny

from edgepack.compression import Context, OnnxMethod, Step
from edgepack.engine.stage import Ingredients, Output, Request, StageResult, Work
from edgepack.pipeline.candidates import method_of
from edgepack.pipeline.contract import ModelStage
from edgepack.pipeline.figures import StepFigures
from edgepack.pipeline.stages import onnx_models
from edgepack.pipeline.stages.samples import samples
from edgepack.pipeline.state import CandidateRun, Resources
from edgepack.spec import Data, Input, Spec

_SOURCES = ("compression/__init__.py", "compression/method.py", "pipeline/stages/compress_onnx.py")


class OnnxStepSpec(Spec):
    """One step, with which samples."""

    inputs: tuple[Input, ...]
    data: Data | None
    step: SerializeAsAny[Step]


class CompressOnnxStage(ModelStage[OnnxStepSpec, StepFigures]):
    """The steps that change the .onnx file."""

    name = "compress"
    figures = StepFigures

    def ingredients(self, spec: OnnxStepSpec) -> Ingredients:
        """The method's own code and tools, and no other method's."""
        method = method_of(spec.step)
        return Ingredients(
            tuple(dict.fromkeys((*onnx_models.TOOLS, *method.tools()))),
            tuple(dict.fromkeys((*onnx_models.SOURCES, *_SOURCES, *method.code()))),
        )

    def requests(self, at: CandidateRun) -> Iterator[Request[OnnxStepSpec]]:
        """One for each step on ONNX."""
        for label, step in zip(at.candidate.labels, at.candidate.steps, strict=True):
            if isinstance(method_of(step), OnnxMethod):
                spec = OnnxStepSpec(inputs=at.inputs, data=at.plan.recipe.data, step=step)
                files = {**at.files.data, "onnx": at.artifacts["onnx"]}
                yield Request(spec, files, label, aliases=(step.method,))

    def run(self, work: Work[OnnxStepSpec, Resources]) -> StageResult[StepFigures]:
        """Apply the method to the file."""
        method = method_of(work.spec.step)
        if not isinstance(method, OnnxMethod):
            raise TypeError(f"{method.name} is no method on ONNX")
        out = work.scratch / "model.onnx"
        context = Context(work.spec.inputs, samples(work.spec.data, work.resources.base), work.progress)
        metrics = method.apply(work.inputs["onnx"], out, work.spec.step, context)
        facts = onnx_models.facts(out, context.data)
        figures = StepFigures(level="onnx", metrics=dict(metrics), **facts.model_dump())
        return StageResult(figures, {"onnx": Output(out, "onnx", f"{method.name}.onnx")})
