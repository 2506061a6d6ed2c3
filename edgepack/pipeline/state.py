"""The state of a candidate in the pipeline: of its model, for a target, on a device."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgepack.compression import OnnxMethod, TorchMethod
from edgepack.config.plan import Plan, TargetPlan
from edgepack.config.recipe import Tune
from edgepack.engine.artifact import Artifact
from edgepack.engine.events import Scope
from edgepack.engine.stage import F, R, Request, S, Stage
from edgepack.engine.store import StageRecord
from edgepack.pipeline.candidates import Candidate, placed_methods
from edgepack.pipeline.figures import SOURCE, RobustnessFigures, SourceFigures, StepFigures
from edgepack.pipeline.fingerprint import UserFiles
from edgepack.remote.boards import Boards, DeviceIdentity
from edgepack.spec import Input, ModelFigures, Score
from edgepack.spec.candidate import RELEASE


@dataclass(frozen=True)
class Resources:
    """Resources that a stage may use, but its result must not depend on.

    Attributes:
        base: the recipe's folder, which paths and user code are relative to. Files read there are in the key by digest.
        boards: devices and sessions.
        device: the device that tunes a target's kernels, or that of a device stage; empty if there is none.
        budget: tuning budget that overrides the recipe's.
        trust: whether pickled objects in weights files may be loaded. The result is that of the file's contents, which are
            in the key; so a result that was stored with trust is used without it: no pickle is loaded then.
    """

    base: Path
    boards: Boards
    device: str = ""
    budget: Tune | None = None
    trust: bool = False


@dataclass
class _Run:
    """Records of completed stages, by stage, and the latest artifact of each role."""

    records: dict[Stage[Any, Any, Any], StageRecord[Any]] = field(default_factory=dict, kw_only=True)
    artifacts: dict[str, Artifact] = field(default_factory=dict, kw_only=True)

    def take(self, stage: Stage[S, F, R], request: Request[S], record: StageRecord[F]) -> None:
        """Add a stage's result."""
        del request
        self.records[stage] = record
        self.artifacts.update(record.artifacts)

    def find(self, stage: Stage[S, F, R]) -> StageRecord[F] | None:
        """The last record of a stage; None if it did not run."""
        return self.records.get(stage)

    def of(self, stage: Stage[S, F, R]) -> StageRecord[F]:
        """The last record of a stage.

        Raises:
            KeyError: it did not run, which the order of the stages excludes.
        """
        record: StageRecord[F] = self.records[stage]
        return record


@dataclass(frozen=True)
class MadeModel:
    """The model after a stage: its name among the figures, its level and its file."""

    label: str
    level: Literal["torch", "onnx"]
    artifact: Artifact


@dataclass
class CandidateRun(_Run):
    """A candidate in the model stages; the artifact ``source`` is the original model."""

    plan: Plan
    candidate: Candidate
    files: UserFiles
    figures: list[ModelFigures] = field(default_factory=list)  # the source, then each step
    made: list[MadeModel] = field(default_factory=list)  # the models of these figures
    torch_score: Score | None = None  # after the last step on torch
    changed_by: tuple[str, ...] = ()  # methods whose changes are stored in the source's weights
    inputs: tuple[Input, ...] = ()  # of the .onnx file, or the recipe's for a torch source

    @property
    def methods(self) -> tuple[TorchMethod[Any] | OnnxMethod[Any], ...]:
        """The method of each step, for the level at which it runs."""
        return placed_methods(self.candidate.steps, torch=self.plan.recipe.model.source is not None)

    def take(self, stage: Stage[S, F, R], request: Request[S], record: StageRecord[F]) -> None:
        """Add a stage's result, and the model's figures after it."""
        super().take(stage, request, record)
        found = record.figures
        if isinstance(found, SourceFigures | StepFigures):
            label = request.label if isinstance(found, StepFigures) and request.label else SOURCE
            self.figures.append(ModelFigures.of(label, found))
            role = "checkpoint" if found.level == "torch" else "onnx"
            self.made.append(MadeModel(label, found.level, record.artifacts[role]))
            if found.level == "torch":
                self.torch_score = found.score
        if isinstance(found, RobustnessFigures):
            number = [each.label for each in self.made].index(found.of)
            self.figures[number] = self.figures[number].model_copy(update={"robust": found.score})
        if isinstance(found, SourceFigures):
            self.inputs, self.changed_by = found.inputs, found.changed_by
            role = "checkpoint" if "checkpoint" in record.artifacts else "onnx"
            self.artifacts[SOURCE] = record.artifacts[role]

    def scope(self, stage: Stage[Any, Any, Any], label: str | None = None) -> Scope:
        """The scope of a model stage."""
        name = self.candidate.name
        own_step = label is not None and name == RELEASE  # listed by its label only, as in the recipe
        return Scope(
            stage=stage.name,
            label=label or stage.name,
            candidate=name,
            shared=stage.name in {"train", "load"} or own_step,
        )


@dataclass
class TargetRun(_Run):
    """A candidate in the stages of one target."""

    model: CandidateRun
    target: TargetPlan
    identities: Mapping[str, DeviceIdentity]  # the target's devices, by name
    budget: Tune | None = None  # tuning budget that overrides the recipe's

    @property
    def candidate(self) -> Candidate:
        """The candidate of this run."""
        return self.model.candidate

    @property
    def emulated(self) -> bool:
        """Whether the device that tunes is emulated: its records are never used for a real one."""
        return any(self.identities[name].emulated for name in self.target.devices[:1])

    def scope(self, stage: Stage[Any, Any, Any], label: str | None = None) -> Scope:
        """The scope of a target stage."""
        name = self.candidate.name
        return Scope(
            stage=stage.name,
            label=label or stage.name,
            candidate=name,
            target=self.target.target.name,
        )


@dataclass
class DeviceRun(_Run):
    """A candidate's bundle in the stages of one device; the device is None if the target has none."""

    build: TargetRun
    device: DeviceIdentity | None

    @property
    def candidate(self) -> Candidate:
        """The candidate of this run."""
        return self.build.candidate

    @property
    def kernels(self) -> tuple[str, ...]:
        """The role of the CUDA kernels' sources, if the device is an emulated GPU: no other device needs them."""
        emulated = self.device is not None and self.device.virtual
        return ("kernels",) if emulated and "kernels" in self.build.artifacts else ()

    def scope(self, stage: Stage[Any, Any, Any], label: str | None = None) -> Scope:
        """The scope of a device stage."""
        device = None if self.device is None else self.device.name
        return self.build.scope(stage, label).model_copy(update={"device": device})
