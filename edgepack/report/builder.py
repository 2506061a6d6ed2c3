"""Building a report while the run goes on: what is known is kept, whatever fails later."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgepack.bundle.manifest import ModelFigures, RecipeInfo
from edgepack.config.recipe import Gates, Recipe
from edgepack.engine.outcome import Outcome, Variant
from edgepack.engine.stage import ABSENT, tool_version
from edgepack.errors import EdgepackError, FleetError, GateError, Interrupted
from edgepack.report.document import ErrorRecord, Gate, Host, RecipeRef, Report, Row, TuningRow, Until
from edgepack.report.gates import check_gates

_TOOLS = ("edgepack", "apache-tvm", "apache-tvm-ffi", "numpy", "onnx", "onnxruntime", "torch", "ziglang")


class ReportBuilder:
    """Collects what the pipeline learns, in any order; ``build`` makes the report of it at any time."""

    def __init__(
        self,
        *,
        run_id: str,
        recipe: RecipeRef,
        until: Until = "bench",
        tools: dict[str, str] | None = None,
        host: Host | None = None,
        started: datetime | None = None,
    ) -> None:
        self._run_id = run_id
        self._recipe = recipe
        self._until = until
        self._tools = tool_versions() if tools is None else tools
        self._host = host or this_host()
        self._started = started or datetime.now(UTC)
        self._rows: dict[tuple[str, Variant], dict[str, Any]] = {}
        self._compression: list[ModelFigures] = []
        self._stages: list[Outcome] = []
        self._tuning: list[TuningRow] = []
        self._gates: tuple[Gate, ...] = ()
        self._errors: list[ErrorRecord] = []

    def outcome(self, outcome: Outcome) -> None:
        """Add a stage's outcome."""
        self._stages.append(outcome)

    def row(self, target: str, variant: Variant, **figures: Any) -> None:
        """Add figures, by their names in ``Row``, to the row of a variant on a target; ``missing`` is merged.

        Raises:
            ValueError: ``Row`` has no such field.
        """
        unknown = figures.keys() - Row.model_fields.keys()
        if unknown:
            raise ValueError(f"a row has no {', '.join(sorted(unknown))}")
        row = self._rows.setdefault((target, variant), {})
        reasons = row.get("missing", {}) | figures.get("missing", {})
        row.update(figures, missing=reasons)

    def missing(self, target: str, variant: Variant, why: str, *fields: str) -> None:
        """Say why figures of a row are missing; a figure that is there after all is not touched.

        Raises:
            ValueError: ``Row`` has no such field.
        """
        unknown = set(fields) - Row.model_fields.keys()
        if unknown:
            raise ValueError(f"a row has no {', '.join(sorted(unknown))}")
        row = self._rows.setdefault((target, variant), {})
        row["missing"] = row.get("missing", {}) | dict.fromkeys(fields, why)

    def compression(self, figures: ModelFigures) -> None:
        """Add the model's figures after a stage: ``source`` first."""
        self._compression.append(figures)

    def tuning(self, tuning: TuningRow) -> None:
        """Add what tuning did for a variant on a target."""
        self._tuning.append(tuning)

    def error(self, error: EdgepackError, *, stage: str | None = None, target: str | None = None) -> None:
        """Add an error; without a target it is one of the whole run."""
        fields: dict[str, Any] = error.to_json()
        for several in ("problems", "obstacles"):
            fields[several] = tuple(fields.get(several, ()))
        self._errors.append(ErrorRecord(**fields, stage=stage, target=target))

    def check(self, gates: Gates) -> tuple[Gate, ...]:
        """Judge the recipe's gates on the rows so far, instead of any judged before."""
        self._gates = check_gates(gates, self._all_rows())
        return self._gates

    def build(self) -> Report:
        """The report of what is known now."""
        report = Report(
            run_id=self._run_id,
            started=self._started.astimezone(UTC).isoformat(timespec="seconds"),
            seconds=max(0.0, (datetime.now(UTC) - self._started).total_seconds()),
            until=self._until,
            recipe=self._recipe,
            tools=self._tools,
            host=self._host,
            rows=self._all_rows(),
            compression=tuple(self._compression),
            stages=tuple(self._stages),
            tuning=tuple(self._tuning),
            gates=self._gates,
            errors=tuple(self._errors),
            exit_code=0,
        )
        return report.model_copy(update={"exit_code": exit_code(report)})

    def _all_rows(self) -> tuple[Row, ...]:
        targets = list(dict.fromkeys(target for target, _ in self._rows))
        ordered = sorted(self._rows, key=lambda key: (targets.index(key[0]), key[1] != "baseline"))
        rows = []
        for target, variant in ordered:
            figures = self._rows[target, variant]
            reasons = figures.get("missing", {})
            still = {field: why for field, why in reasons.items() if figures.get(field) is None}
            rows.append(Row(**(figures | {"target": target, "variant": variant, "missing": still})))
        return tuple(rows)


def exit_code(report: Report) -> int:
    """The exit code of a run, as in edgepack/errors.py.

    An interrupt wins; then an error of the whole run; then the targets' errors: one code where every target
    failed with it, else 7 for a part of the fleet; then a failed gate. 0 is a release that may ship.
    """
    errors = report.errors
    if any(error.exit_code == Interrupted.exit_code for error in errors):
        return Interrupted.exit_code
    for error in errors:
        if error.target is None:
            return error.exit_code
    if errors:
        codes = {error.exit_code for error in errors}
        everywhere = {error.target for error in errors} >= set(report.targets)
        return codes.pop() if everywhere and len(codes) == 1 else FleetError.exit_code
    return GateError.exit_code if any(gate.status == "failed" for gate in report.gates) else 0


def recipe_ref(recipe: Recipe, path: str | None = None) -> RecipeRef:
    """The reference a report holds to a recipe."""
    return RecipeRef(name=recipe.name, version=recipe.version, digest=RecipeInfo.of(recipe).digest, path=path)


def tool_versions() -> dict[str, str]:
    """Versions of edgepack and the packages that shape its results; absent ones are left out."""
    found = {name: tool_version(name) for name in _TOOLS}
    return {name: release for name, release in found.items() if release != ABSENT}


def this_host() -> Host:
    """The machine this process runs on."""
    return Host(
        system=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        cores=os.cpu_count() or 1,
        python=platform.python_version(),
        cpu=_cpu_name(Path("/proc/cpuinfo")),
    )


def _cpu_name(cpuinfo: Path) -> str | None:
    """The CPU's name where Linux tells it; ARM kernels mostly do not."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
