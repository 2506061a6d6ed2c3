"""``export``: torch to ONNX, checked against onnxruntime."""

from edgepack.compression import TorchMethod
from edgepack.engine.stage import Ingredients, Output, Request, StageResult, Work
from edgepack.pipeline.contract import ModelStage
from edgepack.pipeline.stages import onnx_models, torch_models
from edgepack.pipeline.state import CandidateRun, Resources
from edgepack.spec import Finite, Input, Spec

_COMPARED = 3  # made-up inputs that torch and onnxruntime are compared on
_LIMIT = 1e-4  # relative, unless activations or weights are rounded


class ExportSpec(Spec):
    """The source and its inputs."""

    source: str
    inputs: tuple[Input, ...]
    rebuilt: torch_models.Rebuilt


class ExportFigures(Spec):
    """Parity of onnxruntime with torch: the largest relative error over the outputs."""

    torch_parity: Finite


class ExportStage(ModelStage[ExportSpec, ExportFigures]):
    """Exports a torch module as an .onnx file."""

    name = "export"
    figures = ExportFigures

    def ingredients(self, spec: ExportSpec) -> Ingredients:
        """The code that exports, and that restores the module."""
        tools = dict.fromkeys((*torch_models.TOOLS, *onnx_models.TOOLS))
        stages = ("pipeline/stages/export.py", "pipeline/stages/onnx_models.py")
        sources = ("export", "onnxfile", *stages, "torchnet/stored.py")
        return Ingredients(tuple(tools), (*torch_models.SOURCES, *sources, *spec.rebuilt.sources))

    def request(self, at: CandidateRun) -> Request[ExportSpec] | None:
        """The export, if the model is a torch module."""
        source = at.plan.recipe.model.source
        if source is not None:
            steps = [method.name for method in at.methods if isinstance(method, TorchMethod)]
            rebuilt = torch_models.Rebuilt.of((*at.changed_by, *steps), at.candidate.steps)
            spec = ExportSpec(source=source, inputs=at.inputs, rebuilt=rebuilt)
            files = {**at.files.code, **torch_models.built_by(at.candidate.steps, at.plan.base)}
            return Request(spec, {**files, "checkpoint": at.artifacts["checkpoint"]})
        return None

    def run(self, work: Work[ExportSpec, Resources]) -> StageResult[ExportFigures]:
        """Export, and compare on made-up inputs."""
        from edgepack.export import parity, to_onnx
        from edgepack.export.rounding import rounding_spread
        from edgepack.onnxfile.sampling import made_up

        spec = work.spec
        module = torch_models.restore_module(
            spec.source, work.resources.base, work.inputs["checkpoint"], spec.rebuilt.builders
        ).module
        path = to_onnx(module, spec.inputs, work.scratch / "model.onnx")
        samples = made_up(path, spec.inputs, _COMPARED)
        feeds = [sample.inputs for sample in samples]
        spread = rounding_spread(path, feeds, [sample.outputs for sample in samples])
        limit = _LIMIT if spread is None else max(_LIMIT, 2 * spread)
        error = max(parity(module, path, list(feed.values()), limit=limit) for feed in feeds)
        return StageResult(ExportFigures(torch_parity=error), {"onnx": Output(path, "onnx", "model.onnx")})
