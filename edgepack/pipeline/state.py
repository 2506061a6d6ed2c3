"""What is known of a candidate on its way through the stages: alone, for a target, on a device."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepack.config.plan import Plan, TargetPlan
from edgepack.config.recipe import Tune
from edgepack.engine.artifact import Artifact
from edgepack.engine.events import Scope
from edgepack.engine.stage import F, R, Request, S, Stage
from edgepack.engine.store import StageRecord
from edgepack.pipeline.candidates import Candidate
from edgepack.pipeline.figures import SOURCE, SourceFigures, StepFigures
from edgepack.pipeline.fingerprint import UserFiles
from edgepack.remote.boards import Boards, DeviceIdentity
from edgepack.spec import Input, ModelFigures
from edgepack.spec.candidate import RELEASE


@dataclass(frozen=True)
class Resources:
    """What a stage's work may use, and its result must not depend on.

    Attributes:
        base: the recipe's folder, which paths and user code are relative to. What is read there is in the key by digest.
        boards: devices and sessions.
        device: where a target's kernels are measured, or the device at hand; empty where there is none.
        budget: of this one tuning, instead of the recipe's.
    """

    base: Path
    boards: Boards
    device: str = ""
    budget: Tune | None = None


@dataclass
class _Run:
    """Records of stages that ended well, by stage, and the newest artifact of each role."""

    records: dict[Stage[Any, Any, Any], StageRecord[Any]] = field(default_factory=dict, kw_only=True)
    artifacts: dict[str, Artifact] = field(default_factory=dict, kw_only=True)

    def take(self, stage: Stage[S, F, R], request: Request[S], record: StageRecord[F]) -> None:
        """Note what a stage made."""
        del request
        self.records[stage] = record
        self.artifacts.update(record.artifacts)

    def find(self, stage: Stage[S, F, R]) -> StageRecord[F] | None:
        """What a stage made last; None if it did nothing."""
        return self.records.get(stage)

    def of(self, stage: Stage[S, F, R]) -> StageRecord[F]:
        """What a stage made last.

        Raises:
            KeyError: it did nothing, which the order of the stages excludes.
        """
        record: StageRecord[F] = self.records[stage]
        return record


@dataclass
class CandidateRun(_Run):
    """A candidate on its way through the model stages; the artifact ``source`` is the model as it came."""

    plan: Plan
    candidate: Candidate
    files: UserFiles
    figures: list[ModelFigures] = field(default_factory=list)  # the source, then each step
    torch_accuracy: float | None = None  # after the last step on torch
    changed_by: tuple[str, ...] = ()  # methods whose changes the source's weights hold
    inputs: tuple[Input, ...] = ()  # an .onnx file brings its own, a torch source has the recipe's

    def take(self, stage: Stage[S, F, R], request: Request[S], record: StageRecord[F]) -> None:
        """Note what a stage made, and the model's figures after it."""
        super().take(stage, request, record)
        found = record.figures
        if isinstance(found, SourceFigures | StepFigures):
            self.figures.append(ModelFigures.of(request.label or SOURCE, found))
            if found.level == "torch":
                self.torch_accuracy = found.accuracy
        if isinstance(found, SourceFigures):
            self.inputs, self.changed_by = found.inputs, found.changed_by
            role = "checkpoint" if "checkpoint" in record.artifacts else "onnx"
            self.artifacts[SOURCE] = record.artifacts[role]

    def scope(self, stage: Stage[Any, Any, Any], label: str | None = None) -> Scope:
        """Where a model stage stands."""
        name = self.candidate.name
        own_step = label is not None and name == RELEASE  # listed by its label alone, as the recipe has it
        return Scope(
            stage=stage.name,
            label=label or stage.name,
            candidate=name,
            shared=stage.name in {"train", "load"} or own_step,
        )


@dataclass
class TargetRun(_Run):
    """A candidate on its way through the stages of one target."""

    model: CandidateRun
    target: TargetPlan
    identities: Mapping[str, DeviceIdentity]  # of the target's devices, by name
    budget: Tune | None = None  # of this one tuning, instead of the recipe's

    @property
    def candidate(self) -> Candidate:
        """Which one."""
        return self.model.candidate

    @property
    def emulated(self) -> bool:
        """Whether the device that tunes is emulated: what it measures is never served to a real one."""
        return any(self.identities[name].emulated for name in self.target.devices[:1])

    def scope(self, stage: Stage[Any, Any, Any], label: str | None = None) -> Scope:
        """Where a target stage stands."""
        name = self.candidate.name
        return Scope(
            stage=stage.name,
            label=label or stage.name,
            candidate=name,
            target=self.target.target.name,
        )


@dataclass
class DeviceRun(_Run):
    """A candidate's bundle on its way through the stages of one device; None where the target has none."""

    build: TargetRun
    device: DeviceIdentity | None

    @property
    def candidate(self) -> Candidate:
        """Which one."""
        return self.build.candidate

    def scope(self, stage: Stage[Any, Any, Any], label: str | None = None) -> Scope:
        """Where a device stage stands."""
        device = None if self.device is None else self.device.name
        return self.build.scope(stage, label).model_copy(update={"device": device})
