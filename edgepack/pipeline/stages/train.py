"""``train``: build the source network and train it."""

from edgepack.engine.stage import Ingredients, Request, StageResult, Work
from edgepack.pipeline.contract import ModelStage
from edgepack.pipeline.figures import SourceFigures, seeds_of
from edgepack.pipeline.stages import torch_models
from edgepack.pipeline.stages.samples import required_samples
from edgepack.pipeline.state import CandidateRun, Resources
from edgepack.scoring import Scorer
from edgepack.spec import Data, Input, Metric, Spec, Train


class TrainSpec(Spec):
    """The source, its data and training settings."""

    source: str
    inputs: tuple[Input, ...]
    train: Train
    data: Data | None
    metric: Metric = Metric()
    loss: str | None = None


class TrainStage(ModelStage[TrainSpec, SourceFigures]):
    """Trains a torch source."""

    name = "train"
    figures = SourceFigures

    def ingredients(self, spec: TrainSpec) -> Ingredients:
        """The code for torch modules and training."""
        del spec
        return Ingredients(torch_models.TOOLS, (*torch_models.SOURCES, "pipeline/stages/train.py"))

    def request(self, at: CandidateRun) -> Request[TrainSpec] | None:
        """Training, if the recipe has a `train` block."""
        model = at.plan.recipe.model
        if model.source is not None and model.train is not None:
            spec = TrainSpec(
                source=model.source,
                inputs=model.fed,
                train=model.train,
                data=at.plan.recipe.data,
                metric=at.plan.recipe.scored_by,
                loss=at.plan.recipe.loss,
            )
            files = {**at.files.code, **at.files.data, **at.files.metric, **at.files.loss}
            return Request(spec, files)
        return None

    def run(self, work: Work[TrainSpec, Resources]) -> StageResult[SourceFigures]:
        """Train the source; the seed also determines the initial weights."""
        import torch

        from edgepack.torchnet.losses import loss_of
        from edgepack.torchnet.objective import Objective
        from edgepack.torchnet.source import build_source
        from edgepack.torchnet.training import train
        from edgepack.torchnet.trainings import Trainings

        spec, base = work.spec, work.resources.base
        data = required_samples(spec.data, base, spec.inputs)
        torch.manual_seed(spec.train.seed)
        module = build_source(spec.source, base)
        objective, scorer = Objective(loss=loss_of(spec.loss, base)), Scorer(spec.metric, base)
        trainings = Trainings(work.unfinished)
        training = train(
            module,
            data,
            spec.train,
            work.progress,
            objective=objective,
            scorer=scorer,
            trainings=trainings,
        )
        files = torch_models.save_module(module, work.scratch, "trained")
        scored, more = torch_models.evaluate_source(module, scorer, data, None, work.scratch)
        facts = torch_models.facts(module, spec.inputs, scored, files)
        figures = SourceFigures(
            level="torch",
            inputs=spec.inputs,
            training=training,
            seeds=seeds_of(spec),
            trainings=tuple(trainings.records),
            **facts.model_dump(),
        )
        return StageResult(figures, {**files, **more})
