"""The pipeline as one tuple of stages, executed in order.

Model stages run for each candidate, target stages for each candidate and target, device stages for each candidate and
device. A failure stops only what depends on it. Work that several candidates request is done once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepack.base.text import suggestion
from edgepack.compression.ordering import step_labels
from edgepack.compression.registry import METHODS
from edgepack.config.plan import Plan, TargetPlan
from edgepack.config.recipe import Tune
from edgepack.engine.artifact import Artifact
from edgepack.engine.runner import Runner, StageFailed
from edgepack.engine.stage import Skip
from edgepack.errors import GateError, StrategyError, UsageError
from edgepack.pipeline import fingerprint
from edgepack.pipeline.candidates import Candidate
from edgepack.pipeline.contract import DeviceStage, ModelStage, TargetStage
from edgepack.pipeline.emulated_gpu import beside
from edgepack.pipeline.figures import CompileFigures, RobustnessFigures, StepFigures
from edgepack.pipeline.stages.bench import BenchFigures, BenchStage
from edgepack.pipeline.stages.compile import CompileStage
from edgepack.pipeline.stages.compress_onnx import CompressOnnxStage
from edgepack.pipeline.stages.compress_torch import CompressTorchStage
from edgepack.pipeline.stages.deploy import DeployStage
from edgepack.pipeline.stages.evaluate import EvaluateStage
from edgepack.pipeline.stages.export import ExportStage
from edgepack.pipeline.stages.load import LoadStage
from edgepack.pipeline.stages.package import PackageStage
from edgepack.pipeline.stages.recall import RecallStage
from edgepack.pipeline.stages.robustness import RobustnessStage
from edgepack.pipeline.stages.train import TrainStage
from edgepack.pipeline.stages.tune import TuneStage
from edgepack.pipeline.state import CandidateRun, DeviceRun, Resources, TargetRun
from edgepack.pipeline.step_gates import check_step
from edgepack.pipeline.strategy import CheckedStrategy, RecipeStrategy, Strategy, Trial
from edgepack.pipeline.trace import CandidateNotBuilt, CandidatePromoted, RunInterrupted, Until
from edgepack.remote.boards import Boards
from edgepack.spec.candidate import RELEASE

PipelineStage = ModelStage[Any, Any] | TargetStage[Any, Any] | DeviceStage[Any, Any]

EVALUATE = EvaluateStage()
COMPILE = CompileStage()
BENCH = BenchStage()

STAGES: tuple[PipelineStage, ...] = (
    TrainStage(),  #                      train the source, or
    LoadStage(),  #                       load a torch source with weights, or an .onnx file
    CompressTorchStage(),  #              each step on torch: prune, …
    ExportStage(),  #                     torch → ONNX, parity with onnxruntime
    CompressOnnxStage(),  #               each step on ONNX: quantize, …
    RobustnessStage(),  #                 the metric under corruption, after every step, if the recipe asks for it
    EVALUATE,  #                          accuracy in onnxruntime, counts, samples with expected outputs
    TuneStage(),  #                       tune kernels on the board, or
    RecallStage(),  #                     use earlier records for this kind of board
    COMPILE,  #                           ONNX → Relax → shared library
    PackageStage(EVALUATE, COMPILE),  #   the bundle
    DeployStage(),  #                     install over SSH; never cached
    BENCH,  #                             measure the bundle on the board
)


@dataclass
class _Builds:
    """A candidate's results for its targets and devices."""

    run: CandidateRun
    compiled: dict[str, CompileFigures] = field(default_factory=dict)
    measured: dict[tuple[str, str], BenchFigures] = field(default_factory=dict)

    def trial(self) -> Trial:
        evaluated = self.run.find(EVALUATE)
        return Trial(
            self.run.candidate,
            tuple(self.run.figures),
            None if evaluated is None else evaluated.figures,
            self.compiled,
            self.measured,
        )


class Pipeline:
    """One run of a plan through the stages up to ``until``."""

    def __init__(
        self,
        plan: Plan,
        runner: Runner[Resources],
        boards: Boards,
        *,
        until: Until,
        budget: Tune | None = None,
    ) -> None:
        self._plan = plan
        self._runner = runner
        self._boards = boards
        self._budget = budget
        last = [stage.name for stage in STAGES].index(until)
        self._stages = STAGES[: last + 1]
        self._files = fingerprint.user_files(plan.recipe, plan.base)
        self.kept: list[Artifact] = []  # the best model so far, where a step missed a gate

    def run(self, strategy: Strategy | None = None) -> list[Artifact]:
        """Run the rounds of a strategy, by default the recipe's.

        Returns the bundles of the release with the sources of their CUDA kernels, or its ONNX model if ``until`` is
        before the target stages. Failures are sent to the listener, including those of the strategy, which end the run; only KeyboardInterrupt is raised.
        """
        asked = CheckedStrategy(strategy or RecipeStrategy(self._plan.recipe))
        results: list[Artifact] = []
        try:
            while candidates := asked.ask():
                results += self._round(asked, candidates)
        except StrategyError as error:
            self._runner.send(RunInterrupted(error=self._runner.add_error(error)))
        return results

    def _round(self, strategy: Strategy, candidates: Sequence[Candidate]) -> list[Artifact]:
        builds = [self._model(candidate) for candidate in candidates]
        promoted = set(strategy.promote([build.trial() for build in builds]))
        going = [build for build in builds if build.run.candidate.name in promoted]
        for build in going:
            self._runner.send(CandidatePromoted(candidate=build.run.candidate.name))
        results = []
        if any(isinstance(stage, TargetStage) for stage in self._stages):
            for target in self._plan.targets:
                for build in going:
                    made = self._target(build, target)
                    if build.run.candidate.deployed:
                        results += made
        else:
            results = [build.run.artifacts["onnx"] for build in going if build.run.candidate.deployed]
        for build in builds:
            strategy.tell(build.trial())
        return results

    def _model(self, candidate: Candidate) -> _Builds:
        at = CandidateRun(self._plan, candidate, self._files)
        resources = Resources(self._plan.base, self._boards, trust=self._plan.trust)
        try:
            for stage in self._stages:
                if isinstance(stage, ModelStage):
                    self._advance(stage, at, resources)
        except StageFailed:
            pass  # the listener has the error; the strategy sees that there is nothing to build
        return _Builds(at)

    def _target(self, build: _Builds, target: TargetPlan) -> list[Artifact]:
        """Run the stages of one candidate for one target and its devices; returns the bundle and what goes beside it."""
        name, candidate = target.target.name, build.run.candidate
        if candidate.not_built is not None:
            self._runner.send(
                CandidateNotBuilt(candidate=candidate.name, target=name, why=candidate.not_built)
            )
            return []
        identities = {device: self._boards.identify(device) for device in target.devices}
        at = TargetRun(build.run, target, identities, self._budget)
        resources = Resources(self._plan.base, self._boards, next(iter(target.devices), ""), self._budget)
        try:
            for stage in self._stages:
                if isinstance(stage, TargetStage):
                    self._advance(stage, at, resources)
        except StageFailed:
            return []
        compiled = at.find(COMPILE)
        if compiled is not None:
            build.compiled[name] = compiled.figures
        for device in target.devices or (None,):
            self._device(build, DeviceRun(at, None if device is None else identities[device]))
        return _release(at)

    def _device(self, build: _Builds, at: DeviceRun) -> None:
        device = "" if at.device is None else at.device.name
        resources = Resources(self._plan.base, self._boards, device)
        try:
            for stage in self._stages:
                if isinstance(stage, DeviceStage):
                    self._advance(stage, at, resources)
        except StageFailed:
            return
        measured = at.find(BENCH)
        if measured is not None:
            build.measured[at.build.target.target.name, device] = measured.figures

    def _advance(self, stage: Any, at: CandidateRun | TargetRun | DeviceRun, resources: Resources) -> None:
        """Run the requests of a stage at this point."""
        for ask in stage.requests(at):
            request = ask()
            if request is None:
                continue
            if isinstance(request, Skip):
                self._runner.skip(request.why, at.scope(stage))
                continue
            record = self._runner.do(stage, request, at.scope(stage, request.label), resources)
            at.take(stage, request, record)
            if isinstance(at, CandidateRun) and isinstance(record.figures, StepFigures):
                self._check_step(at, len(at.figures) - 1)
            elif isinstance(at, CandidateRun) and isinstance(record.figures, RobustnessFigures):
                self._check_step(at, [made.label for made in at.made].index(record.figures.of))

    def _check_step(self, at: CandidateRun, number: int) -> None:
        """End the release if it misses a gate of the recipe after this step; the model before the step is kept.

        Raises:
            StageFailed: a gate is missed.
        """
        if at.candidate.name != RELEASE or number == 0:
            return
        after, previous = at.figures[number], at.made[number - 1]
        gates = self._plan.recipe.gates.after(after.stage)
        missed = [gate for gate in check_step(gates, at.figures[0], after) if gate.failed]
        if not missed:
            return
        name = f"best-so-far{Path(previous.artifact.name).suffix}"
        self.kept.append(previous.artifact.model_copy(update={"name": name}))
        error = GateError(
            f"{after.stage} broke a gate: {'; '.join(f'{gate.name}: {gate.why}' for gate in missed)}",
            where=f"compress, {after.stage}",
            state=f"the model before this step (after {previous.label}) is kept as {name} in the run's folder",
            next="weaken the step, or raise its limit under gates.steps or gates.each_step",
        )
        self._runner.send(RunInterrupted(error=self._runner.add_error(error)))
        raise StageFailed(error)


def _release(at: TargetRun) -> list[Artifact]:
    """The bundle; for a GPU, also the sources of its kernels, named after it."""
    bundle, kernels = at.artifacts.get("bundle"), at.artifacts.get("kernels")
    if bundle is None:
        return []
    name = beside(Path(bundle.name)).name
    return [bundle] if kernels is None else [bundle, kernels.model_copy(update={"name": name})]


def stage_names(plan: Plan | None = None) -> list[str]:
    """Names for ``--fresh``: stages, methods, and the plan's steps if a method occurs more than once."""
    steps = () if plan is None else step_labels(plan.recipe.compress)
    return list(dict.fromkeys((*(stage.name for stage in STAGES), *METHODS, *steps)))


def require_stages(names: Sequence[str], plan: Plan | None = None) -> None:
    """Check that all names are stages.

    Raises:
        UsageError: a name is not a stage; with a suggestion.
    """
    known = stage_names(plan)
    for name in names:
        if name not in (*known, "all"):
            hint = suggestion(name, known, otherwise=f"stages: {', '.join(known)}, or all")
            raise UsageError(f"unknown stage {name}", next=hint)
