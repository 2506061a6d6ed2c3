"""``compress`` after the export: one compression step of a candidate on the .onnx file."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SerializeAsAny

from edgepack.compression import Context, OnnxMethod, Step
from edgepack.engine.stage import Ingredients, Output, Request, StageResult, Work
from edgepack.pipeline.candidates import method_of
from edgepack.pipeline.contract import ModelStage
from edgepack.pipeline.figures import SOURCE, StepFigures
from edgepack.pipeline.fingerprint import step_inputs
from edgepack.pipeline.stages import onnx_models, torch_models
from edgepack.pipeline.stages.samples import of_source, samples, samples_for, source_outputs, unlabelled
from edgepack.pipeline.stages.signature import Signature, TensorType, unchanged_samples
from edgepack.pipeline.state import CandidateRun, Resources
from edgepack.spec import Data, Input, Metric, Spec

if TYPE_CHECKING:
    import onnx

_SOURCES = (
    "compression/__init__.py",
    "compression/context.py",
    "compression/method.py",
    "pipeline/stages/compress_onnx.py",
    "pipeline/stages/signature.py",
)


class OnnxStepSpec(Spec):
    """One compression step, and its samples."""

    inputs: tuple[Input, ...]
    data: Data | None
    step: SerializeAsAny[Step]
    samples: str | None = None
    metric: Metric = Metric()
    lanes: int | None = None  # of the targets, if the result depends on them
    float16: bool | None = None  # whether all of them compute in it, likewise
    source: str | None = None  # of the original model, if the step needs it


class CompressOnnxStage(ModelStage[OnnxStepSpec, StepFigures]):
    """Runs the compression steps on ONNX."""

    name = "compress"
    figures = StepFigures

    def ingredients(self, spec: OnnxStepSpec) -> Ingredients:
        """The code and tools of this method only."""
        method = method_of(spec.step).on("onnx")
        tools, sources = (
            (*onnx_models.TOOLS, *method.tools()),
            (*onnx_models.SOURCES, *_SOURCES, *method.code()),
        )
        if method.files(spec.step) or spec.source:  # files may be modules and their weights
            tools += torch_models.TOOLS
            sources += (*torch_models.SOURCES, *torch_models.any_rebuilt().sources)
        return Ingredients(tuple(dict.fromkeys(tools)), tuple(dict.fromkeys(sources)))

    def requests(self, at: CandidateRun) -> Sequence[Callable[[], Request[OnnxStepSpec]]]:
        """One request for each step on ONNX."""
        steps = enumerate(at.methods)
        return [
            partial(self._step, at, number, method)
            for number, method in steps
            if isinstance(method, OnnxMethod)
        ]

    def _step(self, at: CandidateRun, number: int, method: OnnxMethod[Any]) -> Request[OnnxStepSpec]:
        """The request for one step, on the output of the previous ones."""
        recipe, step = at.plan.recipe, at.candidate.steps[number]
        metric = recipe.scored_by
        own = samples_for(method, step, recipe.samples, metric)
        by_target = method.by_target(step)
        source = recipe.model.source if any(need.kind == "teacher" for need in method.needs(step)) else None
        spec = OnnxStepSpec(
            inputs=at.inputs,
            data=recipe.data,
            samples=own,
            step=step,
            metric=metric,
            lanes=at.plan.lanes if by_target else None,
            float16=at.plan.float16 if by_target else None,
            source=source,
        )
        files = {**at.files.data, **(at.files.samples if own else {}), "onnx": at.artifacts["onnx"]}
        files |= {**at.files.metric, **of_source(at.artifacts)}
        files |= step_inputs(method.files(step), at.plan.base)
        if source is not None:
            files |= {**at.files.code, "teacher": at.artifacts[SOURCE]}
        return Request(spec, files, at.candidate.labels[number], aliases=(step.method,))

    def run(self, work: Work[OnnxStepSpec, Resources]) -> StageResult[StepFigures]:
        """Apply the method to the file."""
        method = method_of(work.spec.step).on("onnx")
        if not isinstance(method, OnnxMethod):
            raise TypeError(f"{method.name} is not a method on ONNX")
        out = work.scratch / "model.onnx"
        base = work.resources.base
        context = Context(
            work.spec.inputs,
            samples(work.spec.data, base, work.spec.inputs),
            work.progress,
            samples=unlabelled(work.spec.samples, work.spec.inputs, base),
            files=method.files(work.spec.step),
            base=base,
            rebuilders=torch_models.rebuilders(),
            metric=work.spec.metric,
            source_outputs=source_outputs(work.inputs),
            lanes=work.spec.lanes or 1,
            float16=work.spec.float16 or False,
            trust=work.resources.trust,
        )
        source = work.spec.source
        if source is not None:
            context = replace(
                context,
                teacher=lambda: torch_models.restore_module(source, base, work.inputs["teacher"]).module,
            )
        step, signature = work.spec.step, signature_of(work.inputs["onnx"])
        with unchanged_samples(context, step, method):
            metrics = method.apply(_dense(work.inputs["onnx"], work.scratch), out, step, context)
        _store_sparse(out)
        signature.require(signature_of(out), step, method)
        facts = onnx_models.facts(out, context.evaluation)
        figures = StepFigures.of_step(step, "onnx", metrics, facts, notes=context.notes)
        return StageResult(figures, {"onnx": Output(out, "onnx", f"{method.name}.onnx")})


def signature_of(path: Path) -> Signature:
    """The inputs and outputs of an .onnx file."""
    from edgepack.onnxfile import load_onnx

    graph = load_onnx(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = (_type_of(value) for value in graph.input if value.name not in constants)
    return Signature(tuple(inputs), tuple(_type_of(value) for value in graph.output))


def _type_of(value: "onnx.ValueInfoProto") -> TensorType:
    from onnx import TensorProto

    tensor = value.type.tensor_type
    shape = tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in tensor.shape.dim
    )
    dtype = TensorProto.DataType.Name(tensor.elem_type).lower()
    return TensorType(value.name, dtype, shape if tensor.HasField("shape") else None)


def _dense(path: Path, scratch: Path) -> Path:
    """The file with plain constants in place of sparse blocks: methods read weights, and change them."""
    from edgepack.onnxfile import load_onnx, save_onnx
    from edgepack.onnxfile.sparse_blocks import restore_dense

    model = load_onnx(path)
    dense = restore_dense(model)
    if dense is model:
        return path
    save_onnx(dense, scratch / "dense.onnx")
    return scratch / "dense.onnx"


def _store_sparse(path: Path) -> None:
    """Store weights with many zeros in sparse blocks."""
    from edgepack.onnxfile import load_onnx, save_onnx
    from edgepack.onnxfile.sparse_blocks import store_sparse

    model = load_onnx(path)
    sparse = store_sparse(model)
    if sparse is not model:
        save_onnx(sparse, path)
