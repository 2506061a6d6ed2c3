"""The report of one run as a versioned document. docs/report.md describes every field.

Versions: 1; 2 adds the device of each outcome, gate and error, ``compression[].encodings`` and
``compression[].metrics``, and renames ``variant`` to ``candidate`` and an error's ``obstacles`` to ``model_problems``; 3 has
scores of any metric, with intervals, in place of accuracies, ``compression[].nonzeros``, the sizes of weights, and gates of steps.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, JsonValue

from edgepack.engine.artifact import Artifact
from edgepack.engine.events import ErrorRecord
from edgepack.measuring.measurement import Measurement
from edgepack.measuring.profile import ModelProfile
from edgepack.pipeline.figures import RobustnessFigures
from edgepack.pipeline.stages.tune import TunedKernel
from edgepack.pipeline.trace import Host, Placement, RecipeRef, Until
from edgepack.spec import Count, Finite, JsonDocument, ModelFigures, Scored, Share, Spec, TrainingRecord
from edgepack.spec.candidate import BASELINE
from edgepack.spec.document import rename_key
from edgepack.tuning.result import CurvePoint, StopReason


class Outcome(Spec):
    """The outcome of one stage; shared stages have neither target nor candidate."""

    stage: str
    target: str | None = None
    candidate: str | None = None
    device: str | None = None
    status: Literal["done", "cached", "failed", "skipped"]
    seconds: Finite = Field(default=0.0, ge=0, description="Wall-clock time.")
    started: Finite | None = Field(default=None, ge=0, description="Seconds since the run began.")
    why: str | None = Field(default=None, description="Why it was not cached, failed or was skipped.")
    artifacts: tuple[Artifact, ...] = ()


class Row(Spec):
    """One candidate on one target and device. Missing figures are None; ``missing`` gives the reasons."""

    target: str
    candidate: str
    device: str | None = Field(default=None, description="The device that it was measured on.")
    emulated: bool = Field(
        default=False,
        description="Whether the device is emulated, so that latency and resident set are meaningless.",
    )
    onnx_size: Count | None = Field(default=None, description="Size of the ONNX model, bytes.")
    compiled_size: Count | None = Field(
        default=None, description="Size of the compiled model with its weights file, bytes."
    )
    weights_size: Count | None = Field(
        default=None, description="Size of the weights in the bundle, entropy coded, bytes."
    )
    weights_memory: Count | None = Field(
        default=None, description="Size of the weights in memory while the model runs, bytes."
    )
    bundle_size: Count | None = Field(default=None, description="Size of the .edgepack file, bytes.")
    bundle_digest: str | None = None
    parameters: Count | None = None
    nonzeros: Count | None = Field(default=None, description="Parameters that are not zero.")
    macs: Count | None = Field(default=None, description="Multiply-accumulates of one inference.")
    score_torch: Scored | None = Field(default=None, description="The recipe's metric in torch, fp32.")
    score_onnxruntime: Scored | None = None
    score_board: Scored | None = Field(default=None, description="Of the bundle, on the board.")
    robust: Scored | None = Field(
        default=None, description="The metric under corruption, in torch or onnxruntime: the mean over all."
    )
    chance: Share | None = Field(
        default=None, description="Accuracy of always answering the most frequent class of the test split."
    )
    score_same: Scored | None = Field(
        default=None, description="In onnxruntime, on the samples that the board ran."
    )
    board_samples: Count | None = Field(default=None, description="Inferences on test samples on the board.")
    parity: Finite | None = Field(
        default=None, ge=0, description="max|board-onnxruntime| / max|onnxruntime|."
    )
    rounding: Finite | None = Field(
        default=None,
        ge=0,
        description="Change of the outputs in onnxruntime if values in int8 or float16 round otherwise.",
    )
    measurement: Measurement | None = None
    profile: ModelProfile | None = Field(
        default=None, description="Its kernels, if the recipe asks for them."
    )
    warnings: tuple[str, ...] = Field(default=(), description="What its figures do not show.")
    missing: dict[str, str] = Field(default_factory=dict, description="Why a field is None, by its name.")


class TuningRow(Spec):
    """The tuning of one candidate for one target."""

    target: str
    candidate: str
    trials: Count
    seconds: Finite = Field(ge=0)
    tuned_share: Share | None = Field(
        default=None, description="Tuned kernels' share of the predicted runtime."
    )
    stopped: StopReason | None = Field(default=None, description="Why tuning ended.")
    untuned_ms: Finite | None = Field(
        default=None,
        description="Predicted time of all kernels in one inference, with their fallback schedules.",
    )
    predicted_ms: Finite | None = Field(
        default=None, description="The same with the schedules that are compiled."
    )
    noise_ms: Finite | None = Field(
        default=None, ge=0, description="Uncertainty of untuned_ms: the sum of the kernels' noise."
    )
    curve: tuple[CurvePoint, ...] = ()
    kernels: tuple[TunedKernel, ...] = ()
    emulated: bool = False


Status = Literal["passed", "failed", "skipped"]


class Gate(Spec):
    """One gate of the recipe, on one target and device or after one step, and its result."""

    name: str
    target: str | None = Field(default=None, description="None for a gate of a step.")
    device: str | None = None
    step: str | None = Field(
        default=None, description="The step that it is of, or the first one after which it is not kept."
    )
    limit: Finite
    value: Finite | None = None
    status: Status
    why: str | None = Field(
        default=None, description="Why it failed or was skipped, or why its limit is not the recipe's."
    )


class ModelRow(ModelFigures):
    """The model after one stage, with the metrics of the compression method."""

    metrics: dict[str, JsonValue] = Field(default_factory=dict, description="The method's own figures.")
    seeds: dict[str, int] = Field(default_factory=dict, description="Seeds, by the option that gives them.")
    trainings: tuple[TrainingRecord, ...] = Field(default=(), description="Its trainings, in order.")
    robustness: RobustnessFigures | None = Field(default=None, description="The metric by corruption.")


_RENAMED = {
    "compression": {"accuracy": "score"},
    "rows": {
        "accuracy_torch": "score_torch",
        "accuracy_onnxruntime": "score_onnxruntime",
        "accuracy_board": "score_board",
        "accuracy_samples": "board_samples",
    },
}
"""Fields that version 3 renamed, by part of the report."""


def _renamed(item: Any, names: Mapping[str, str]) -> Any:
    """A row of an older report with its fields renamed, also among those that are missing."""
    for old, new in names.items():
        item = rename_key(item, old, new)
        if isinstance(item, dict) and "missing" in item:
            item = {**item, "missing": rename_key(item["missing"], old, new)}
    return item


class Report(JsonDocument):
    """The report of a run: its stages, measurements and gates."""

    hint = "re-run the recipe: edgepack run"

    kind: Literal["report"] = "report"
    edgepack: Literal[3] = Field(default=3, description="Version of the report schema.")
    run_id: str
    started: str = Field(description="ISO 8601, UTC.")
    seconds: Finite = Field(ge=0, description="Wall-clock time of the whole run.")
    until: Until = Field(default="bench", description="The last stage that was requested.")
    recipe: RecipeRef
    tools: dict[str, str] = Field(description="Versions of edgepack and the tools it used.")
    host: Host
    rows: tuple[Row, ...] = ()
    compression: tuple[ModelRow, ...] = Field(default=(), description="The model after each stage.")
    stages: tuple[Outcome, ...] = ()
    tuning: tuple[TuningRow, ...] = ()
    gates: tuple[Gate, ...] = ()
    errors: tuple[ErrorRecord, ...] = ()
    exit_code: int

    @classmethod
    def upgrade(cls, value: dict[str, Any], version: int) -> dict[str, Any]:
        """Convert the values of an older report to this version."""
        if version == 1:
            renamed = dict.fromkeys(("rows", "stages", "tuning"), ("variant", "candidate"))
            renamed["errors"] = ("obstacles", "model_problems")
            for part, (old, new) in renamed.items():
                if isinstance(items := value.get(part), list):
                    value = {**value, part: [rename_key(item, old, new) for item in items]}
        if version < 3:  # noqa: PLR2004 - the version that renamed them
            for part, names in _RENAMED.items():
                if isinstance(items := value.get(part), list):
                    value = {**value, part: [_renamed(item, names) for item in items]}
        return super().upgrade(value, version)

    @property
    def targets(self) -> tuple[str, ...]:
        """All targets of the run, in order of first appearance."""
        return tuple(dict.fromkeys(place.target for place in self.placements))

    @property
    def placements(self) -> tuple[Placement, ...]:
        """All targets with each of their devices, in the order of the rows; targets without a device have None."""
        places = list(dict.fromkeys((row.target, row.device, row.emulated) for row in self.rows))
        mentioned = [outcome.target for outcome in self.stages] + [error.target for error in self.errors]
        known = {target for target, _, _ in places}
        places += [
            (target, None, False) for target in dict.fromkeys(mentioned) if target and target not in known
        ]
        return tuple(
            Placement(target=target, device=device, emulated=emulated) for target, device, emulated in places
        )

    @property
    def candidates(self) -> tuple[str, ...]:
        """All candidates that have a row, the baseline first."""
        named = dict.fromkeys(row.candidate for row in self.rows)
        return tuple(sorted(named, key=lambda name: name != BASELINE))

    @property
    def releases(self) -> tuple[tuple[str, str, str], ...]:
        """Target, candidate and release digest of every bundle."""
        found = ((row.target, row.candidate, row.bundle_digest) for row in self.rows)
        return tuple(dict.fromkeys((t, v, digest) for t, v, digest in found if digest))

    def shown_device(self, target: str | None, device: str | None) -> str | None:
        """The device if the target has several, else None."""
        several = len({at.device for at in self.placements if at.target == target}) > 1
        return device if several else None

    def place_name(self, thing: Row | Outcome) -> str:
        """The display name of a row's place: its target, with the device if the target has several."""
        device = self.shown_device(thing.target, thing.device)
        return f"{thing.target} ({device})" if device else thing.target or ""

    def row(self, place: Placement, candidate: str) -> Row | None:
        """The row of a candidate at a placement, if there is one."""
        key = (place.target, place.device, candidate)
        return next((r for r in self.rows if (r.target, r.device, r.candidate) == key), None)
