"""The report of one run as a versioned document. docs/report.md explains every field."""

from typing import Annotated, Any, Literal

from pydantic import Field

from edgepack.bench.measurement import Measurement
from edgepack.bundle.manifest import ModelFigures
from edgepack.engine.outcome import Outcome, Variant
from edgepack.spec import Finite, Spec
from edgepack.spec.document import JsonDocument

Count = Annotated[int, Field(ge=0)]
Until = Literal["evaluate", "tune", "package", "bench"]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class RecipeRef(Spec):
    """The recipe of the run."""

    name: str
    version: str
    digest: str = Field(description="sha256 of its canonical JSON.")
    path: str | None = None


class Host(Spec):
    """The machine that built and drove the run, not the boards."""

    system: str
    machine: str
    cores: int = Field(ge=1)
    python: str
    cpu: str | None = None


class Row(Spec):
    """One variant on one target. None is a missing figure; ``missing`` says why it is missing."""

    target: str
    variant: Variant
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


class CurvePoint(Spec):
    """The best known sum of the kernels' latencies after so much tuning."""

    seconds: Finite = Field(ge=0)
    trials: Count
    predicted_ms: Finite = Field(ge=0)


class TunedKernel(Spec):
    """One kernel, weighted by how often the model calls it."""

    name: str
    tuned: bool
    best_ms: Finite | None = Field(default=None, ge=0, description="Of one call.")
    share: Share | None = Field(default=None, description="Of the predicted runtime.")


class TuningRow(Spec):
    """What tuning did for one variant on one target."""

    target: str
    variant: Variant
    trials: Count
    seconds: Finite = Field(ge=0)
    tuned_share: Share | None = Field(
        default=None, description="Tuned kernels' share of the predicted runtime."
    )
    curve: tuple[CurvePoint, ...] = ()
    kernels: tuple[TunedKernel, ...] = ()
    emulated: bool = False


class Gate(Spec):
    """One gate of the recipe on one target, and how it went."""

    name: str
    target: str
    limit: Finite
    value: Finite | None = None
    status: Literal["passed", "failed", "skipped"]
    why: str | None = Field(default=None, description="Why it failed or was skipped.")


class ErrorRecord(Spec):
    """An error as the user saw it; the fields of edgepack.errors.EdgepackError."""

    type: str
    message: str
    exit_code: int
    stage: str | None = None
    target: str | None = None
    where: str | None = None
    why: str | None = None
    state: str | None = None
    next: str | None = None
    problems: tuple[dict[str, Any], ...] = ()
    obstacles: tuple[dict[str, Any], ...] = Field(
        default=(), description="What keeps a model from being lowered: operator, node, message, why, next."
    )

    @property
    def details(self) -> tuple[tuple[str, str], ...]:
        """What else there is to say, in words: each problem of a recipe, each obstacle in a model."""
        problems = [("problem", ": ".join(str(value) for value in one.values())) for one in self.problems]
        obstacles = []
        for one in self.obstacles if len(self.obstacles) > 1 else ():  # a single one is the error itself
            place = f" (node {one['node']})" if one["node"] else ""
            words = "; ".join(one[part] for part in ("why", "next") if one[part])
            obstacles.append(("obstacle", f"{one['message']}{place}: {words}"))
        return (*problems, *obstacles)


class Report(JsonDocument):
    """All that a run did, measured and decided."""

    hint = "run the recipe again with: edgepack run"

    kind: Literal["report"] = "report"
    edgepack: Literal[1] = Field(default=1, description="Version of the report schema.")
    run_id: str
    started: str = Field(description="ISO 8601, UTC.")
    seconds: Finite = Field(ge=0, description="Wall clock of the whole run.")
    until: Until = Field(default="bench", description="The stage the run was asked to stop after.")
    recipe: RecipeRef
    tools: dict[str, str] = Field(description="Versions of edgepack and what it used.")
    host: Host
    rows: tuple[Row, ...] = ()
    compression: tuple[ModelFigures, ...] = Field(default=(), description="The model after each stage.")
    stages: tuple[Outcome, ...] = ()
    tuning: tuple[TuningRow, ...] = ()
    gates: tuple[Gate, ...] = ()
    errors: tuple[ErrorRecord, ...] = ()
    exit_code: int

    @property
    def targets(self) -> tuple[str, ...]:
        """Every target of the run, in the order it was first mentioned."""
        named = [row.target for row in self.rows]
        named += [outcome.target for outcome in self.stages if outcome.target]
        named += [error.target for error in self.errors if error.target]
        return tuple(dict.fromkeys(named))

    def row(self, target: str, variant: Variant) -> Row | None:
        """The row of one variant on one target, if there is one."""
        return next((r for r in self.rows if (r.target, r.variant) == (target, variant)), None)
