"""The report of one run as a versioned document. docs/report.md explains every field.

Versions: 1; 2 adds the device of each outcome, gate and error, ``compression[].encodings`` and
``compression[].metrics``, and calls ``variant`` ``candidate`` and an error's ``obstacles`` ``model_problems``.
"""

from typing import Any, Literal

from pydantic import Field, JsonValue

from edgepack.engine.artifact import Artifact
from edgepack.engine.events import ErrorRecord
from edgepack.measuring.measurement import Measurement
from edgepack.pipeline.stages.tune import TunedKernel
from edgepack.pipeline.trace import Host, Placement, RecipeRef, Until
from edgepack.spec import Count, Finite, JsonDocument, ModelFigures, Share, Spec
from edgepack.spec.candidate import BASELINE
from edgepack.spec.document import rename_key
from edgepack.tuning.result import CurvePoint, StopReason


class Outcome(Spec):
    """What became of one stage; stages that serve every target have neither target nor candidate."""

    stage: str
    target: str | None = None
    candidate: str | None = None
    device: str | None = None
    status: Literal["done", "cached", "failed", "skipped"]
    seconds: Finite = Field(default=0.0, ge=0, description="Wall clock.")
    started: Finite | None = Field(default=None, ge=0, description="Seconds after the run began.")
    why: str | None = Field(
        default=None, description="Why it was not cached, why it failed, why it was skipped."
    )
    artifacts: tuple[Artifact, ...] = ()


class Row(Spec):
    """One candidate on one target and device. None is a missing figure; ``missing`` says why it is missing."""

    target: str
    candidate: str
    device: str | None = Field(default=None, description="Where it was measured.")
    emulated: bool = Field(default=False, description="Latency and resident set mean nothing.")
    onnx_size: Count | None = Field(default=None, description="The ONNX model, bytes.")
    compiled_size: Count | None = Field(default=None, description="The compiled model, bytes.")
    bundle_size: Count | None = Field(default=None, description="The .edgepack file, bytes.")
    bundle_digest: str | None = None
    parameters: Count | None = None
    macs: Count | None = Field(default=None, description="Multiply-accumulates of one inference.")
    accuracy_torch: Share | None = Field(default=None, description="fp32, in torch.")
    accuracy_onnxruntime: Share | None = None
    accuracy_board: Share | None = Field(default=None, description="The bundle, on the board.")
    accuracy_samples: Count | None = Field(default=None, description="Test samples run on the board.")
    parity: Finite | None = Field(
        default=None, ge=0, description="max|board-onnxruntime| / max|onnxruntime|."
    )
    measurement: Measurement | None = None
    missing: dict[str, str] = Field(default_factory=dict, description="Field to why it is None.")


class TuningRow(Spec):
    """What tuning did for one candidate on one target."""

    target: str
    candidate: str
    trials: Count
    seconds: Finite = Field(ge=0)
    tuned_share: Share | None = Field(
        default=None, description="Tuned kernels' share of the predicted runtime."
    )
    stopped: StopReason | None = Field(default=None, description="Why it ended.")
    untuned_ms: Finite | None = Field(
        default=None, description="One inference in the kernels, all on their fallback schedules."
    )
    predicted_ms: Finite | None = Field(default=None, description="The same, as they are compiled.")
    noise_ms: Finite | None = Field(
        default=None, ge=0, description="What untuned_ms may be off by: the kernels' noise, added up."
    )
    curve: tuple[CurvePoint, ...] = ()
    kernels: tuple[TunedKernel, ...] = ()
    emulated: bool = False


class Gate(Spec):
    """One gate of the recipe on one target and device, and how it went."""

    name: str
    target: str
    device: str | None = None
    limit: Finite
    value: Finite | None = None
    status: Literal["passed", "failed", "skipped"]
    why: str | None = Field(default=None, description="Why it failed or was skipped.")


class ModelRow(ModelFigures):
    """The model after one stage, and what the method of a compression step says of it."""

    metrics: dict[str, JsonValue] = Field(default_factory=dict, description="The method's own figures.")


class Report(JsonDocument):
    """All that a run did, measured and decided."""

    hint = "run the recipe again with: edgepack run"

    kind: Literal["report"] = "report"
    edgepack: Literal[2] = Field(default=2, description="Version of the report schema.")
    run_id: str
    started: str = Field(description="ISO 8601, UTC.")
    seconds: Finite = Field(ge=0, description="Wall clock of the whole run.")
    until: Until = Field(default="bench", description="The stage the run was asked to stop after.")
    recipe: RecipeRef
    tools: dict[str, str] = Field(description="Versions of edgepack and what it used.")
    host: Host
    rows: tuple[Row, ...] = ()
    compression: tuple[ModelRow, ...] = Field(default=(), description="The model after each stage.")
    stages: tuple[Outcome, ...] = ()
    tuning: tuple[TuningRow, ...] = ()
    gates: tuple[Gate, ...] = ()
    errors: tuple[ErrorRecord, ...] = ()
    exit_code: int

    @classmethod
    def upgraded(cls, value: dict[str, Any], version: int) -> dict[str, Any]:
        """The values of an older report as those of this version."""
        if version == 1:
            renamed = dict.fromkeys(("rows", "stages", "tuning"), ("variant", "candidate"))
            renamed["errors"] = ("obstacles", "model_problems")
            for part, (old, new) in renamed.items():
                if isinstance(items := value.get(part), list):
                    value = {**value, part: [rename_key(item, old, new) for item in items]}
        return super().upgraded(value, version)

    @property
    def targets(self) -> tuple[str, ...]:
        """Every target of the run, in the order it was first mentioned."""
        return tuple(dict.fromkeys(place.target for place in self.placements))

    @property
    def placements(self) -> tuple[Placement, ...]:
        """Every target with each of its devices, in the order of the rows; one that has none yet stands alone."""
        found = list(dict.fromkeys((row.target, row.device, row.emulated) for row in self.rows))
        mentioned = [outcome.target for outcome in self.stages] + [error.target for error in self.errors]
        known = {target for target, _, _ in found}
        found += [
            (target, None, False) for target in dict.fromkeys(mentioned) if target and target not in known
        ]
        return tuple(
            Placement(target=target, device=device, emulated=emulated) for target, device, emulated in found
        )

    @property
    def candidates(self) -> tuple[str, ...]:
        """Every candidate that has a row, the baseline first."""
        named = dict.fromkeys(row.candidate for row in self.rows)
        return tuple(sorted(named, key=lambda name: name != BASELINE))

    @property
    def releases(self) -> tuple[tuple[str, str, str], ...]:
        """Target, candidate and release digest of every bundle."""
        found = ((row.target, row.candidate, row.bundle_digest) for row in self.rows)
        return tuple(dict.fromkeys((t, v, digest) for t, v, digest in found if digest))

    def shown_device(self, target: str | None, device: str | None) -> str | None:
        """The device, where the target has several and it would be unclear without."""
        several = len({at.device for at in self.placements if at.target == target}) > 1
        return device if several else None

    def named(self, thing: Row | Outcome) -> str:
        """What the place of a thing is called: its target, and its device where the target has several."""
        device = self.shown_device(thing.target, thing.device)
        return f"{thing.target} ({device})" if device else thing.target or ""

    def row(self, place: Placement, candidate: str) -> Row | None:
        """The row of one candidate at one place, if there is one."""
        key = (place.target, place.device, candidate)
        return next((r for r in self.rows if (r.target, r.device, r.candidate) == key), None)
