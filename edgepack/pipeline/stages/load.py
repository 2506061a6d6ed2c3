"""``load``: the original model, a torch source with its weights or an .onnx file."""

from edgepack.engine.stage import Ingredients, Output, Request, StageResult, Work
from edgepack.pipeline.contract import ModelStage
from edgepack.pipeline.figures import SourceFigures
from edgepack.pipeline.stages import onnx_models, torch_models
from edgepack.pipeline.stages.samples import samples
from edgepack.pipeline.state import CandidateRun, Resources
from edgepack.spec import Data, Model, Spec


class LoadSpec(Spec):
    """The model to load, and samples for its accuracy."""

    model: Model
    data: Data | None


class LoadStage(ModelStage[LoadSpec, SourceFigures]):
    """Loads a trained model."""

    name = "load"
    figures = SourceFigures

    def ingredients(self, spec: LoadSpec) -> Ingredients:
        """The code for torch modules or .onnx files; weights may be a checkpoint changed by any method."""
        if spec.model.onnx is not None:
            return Ingredients(onnx_models.TOOLS, (*onnx_models.SOURCES, "pipeline/stages/load.py"))
        rebuilt = torch_models.any_rebuilt()
        return Ingredients(
            torch_models.TOOLS, (*torch_models.SOURCES, *rebuilt.sources, "pipeline/stages/load.py")
        )

    def request(self, at: CandidateRun) -> Request[LoadSpec] | None:
        """Loading, if the recipe does not train."""
        recipe = at.plan.recipe
        if recipe.model.train is None:
            files = {**at.files.code, **at.files.model, **at.files.data}
            return Request(LoadSpec(model=recipe.model, data=recipe.data), files)
        return None

    def run(self, work: Work[LoadSpec, Resources]) -> StageResult[SourceFigures]:
        """Load, check, and count."""
        return self._onnx(work) if work.spec.model.onnx is not None else self._torch(work)

    def _onnx(self, work: Work[LoadSpec, Resources]) -> StageResult[SourceFigures]:
        from edgepack.export.importing import import_checked
        from edgepack.onnxfile.binding import bound

        model, base = work.spec.model, work.resources.base
        path = work.scratch / "model.onnx"
        with bound(base / (model.onnx or ""), model.inputs) as (original, given):
            inputs = import_checked(original, given, path)
            data = samples(work.spec.data, base)
            facts = onnx_models.facts(path, data, reference=original, shape=inputs[0].shape)
        figures = SourceFigures(level="onnx", inputs=inputs, **facts.model_dump())
        return StageResult(figures, {"onnx": Output(path, "onnx", "model.onnx")})

    def _torch(self, work: Work[LoadSpec, Resources]) -> StageResult[SourceFigures]:
        from edgepack.torchnet.source import load_source

        model, base = work.spec.model, work.resources.base
        found = load_source(model, base, torch_models.rebuilders())
        files = torch_models.save_module(found.module, work.scratch, "loaded", found.changes)
        data = samples(work.spec.data, base)
        facts = torch_models.facts(found.module, model.fed, data, files)
        changed_by = tuple(change.method for change in found.changes)
        figures = SourceFigures(
            level="torch",
            inputs=model.fed,
            changed_by=changed_by,
            notes=found.notes,
            **facts.model_dump(),
        )
        return StageResult(figures, files)
