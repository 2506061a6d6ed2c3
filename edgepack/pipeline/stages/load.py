"""``load``: the original model, a torch source with its weights or an .onnx file."""

from edgepack.engine.stage import Ingredients, Output, Request, StageResult, Work
from edgepack.pipeline.contract import ModelStage
from edgepack.pipeline.figures import SourceFigures, seeds_of
from edgepack.pipeline.stages import onnx_models, torch_models
from edgepack.pipeline.stages.samples import samples, unlabelled
from edgepack.pipeline.state import CandidateRun, Resources
from edgepack.scoring import Scorer
from edgepack.spec import Data, Metric, Model, Spec


class LoadSpec(Spec):
    """The model to load, and samples for its accuracy."""

    model: Model
    data: Data | None
    metric: Metric = Metric()
    samples: str | None = None  # where the metric compares with the source and there is no data


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
            metric = recipe.scored_by
            given = recipe.samples if Scorer(metric).of_source else None
            files = {**at.files.code, **at.files.model, **at.files.data, **at.files.metric}
            files |= {} if given is None else at.files.samples
            spec = LoadSpec(model=recipe.model, data=recipe.data, metric=metric, samples=given)
            return Request(spec, files)
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
            data = samples(work.spec.data, base, inputs)
            found = unlabelled(work.spec.samples, inputs, base)
            scored, more = onnx_models.evaluate_source(
                original, inputs, Scorer(work.spec.metric, base), data, found, scratch=work.scratch
            )
            facts = onnx_models.facts(path, scored, reference=original, inputs=inputs)
        figures = SourceFigures(level="onnx", inputs=inputs, seeds=seeds_of(work.spec), **facts.model_dump())
        return StageResult(figures, {"onnx": Output(path, "onnx", "model.onnx"), **more})

    def _torch(self, work: Work[LoadSpec, Resources]) -> StageResult[SourceFigures]:
        from edgepack.torchnet.source import load_source

        model, base = work.spec.model, work.resources.base
        rebuilders = torch_models.rebuilders(base, (model.source or "",))
        found = load_source(model, base, rebuilders, trust=work.resources.trust)
        files = torch_models.save_module(found.module, work.scratch, "loaded", found.changes)
        data = samples(work.spec.data, base, model.fed)
        scored, more = torch_models.evaluate_source(
            found.module,
            Scorer(work.spec.metric, base),
            data,
            unlabelled(work.spec.samples, model.fed, base),
            work.scratch,
        )
        facts = torch_models.facts(found.module, model.fed, scored, files)
        changed_by = tuple(change.method for change in found.changes)
        figures = SourceFigures(
            level="torch",
            inputs=model.fed,
            changed_by=changed_by,
            notes=found.notes,
            seeds=seeds_of(work.spec),
            **facts.model_dump(),
        )
        return StageResult(figures, {**files, **more})
