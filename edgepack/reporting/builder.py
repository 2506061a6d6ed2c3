"""Builds a report incrementally, so that figures are kept even if a later stage fails."""

from typing import Any

from edgepack.config.gates import Gates
from edgepack.engine.events import ErrorRecord
from edgepack.errors import FleetError, GateError, Interrupted
from edgepack.pipeline.figures import RobustnessFigures
from edgepack.pipeline.trace import Host, RecipeRef, Until
from edgepack.reporting.chance import chance_warnings
from edgepack.reporting.document import Gate, ModelRow, Outcome, Report, Row, TuningRow
from edgepack.reporting.gates import check_gates, check_step_gates
from edgepack.spec.candidate import BASELINE

_KEY = {"target", "candidate", "device"}


class ReportBuilder:
    """Collects the results of a run, in any order; ``build`` returns the report at any time."""

    def __init__(
        self,
        *,
        run_id: str,
        recipe: RecipeRef,
        started: str,
        tools: dict[str, str],
        host: Host,
        until: Until = "bench",
    ) -> None:
        self._run_id = run_id
        self._recipe = recipe
        self._until: Until = until
        self._tools = tools
        self._host = host
        self._started = started
        self._rows: dict[tuple[str, str | None, str], dict[str, Any]] = {}
        self._compression: list[ModelRow] = []
        self._stages: list[Outcome] = []
        self._tuning: list[TuningRow] = []
        self._gates: tuple[Gate, ...] = ()
        self._errors: list[ErrorRecord] = []

    def add_outcome(self, outcome: Outcome) -> None:
        """Add a stage's outcome."""
        self._stages.append(outcome)

    def add_row(self, target: str, candidate: str, *, device: str | None = None, **figures: Any) -> None:
        """Add figures, by their names in ``Row``, to the row of a candidate on a target and device; ``missing`` is merged.

        Raises:
            ValueError: ``Row`` has no such field.
        """
        unknown = figures.keys() - (Row.model_fields.keys() - _KEY)
        if unknown:
            raise ValueError(f"a row has no field {', '.join(sorted(unknown))}")
        row = self._rows.setdefault((target, device, candidate), {"missing": {}})
        reasons = row["missing"] | figures.get("missing", {})
        row.update(figures, missing=reasons)

    def add_warnings(self, target: str, candidate: str, *warnings: str, device: str | None = None) -> None:
        """Add warnings to those of a row."""
        row = self._rows.setdefault((target, device, candidate), {"missing": {}})
        row["warnings"] = tuple(dict.fromkeys((*row.get("warnings", ()), *warnings)))

    def add_missing(
        self, target: str, candidate: str, why: str, *fields: str, device: str | None = None
    ) -> None:
        """Set why figures of a row are missing; figures that have a value are not affected.

        Raises:
            ValueError: ``Row`` has no such field.
        """
        unknown = set(fields) - Row.model_fields.keys()
        if unknown:
            raise ValueError(f"a row has no field {', '.join(sorted(unknown))}")
        row = self._rows.setdefault((target, device, candidate), {"missing": {}})
        row["missing"] |= dict.fromkeys(fields, why)

    def add_compression(self, row: ModelRow) -> None:
        """Add the model's figures after a stage, ``source`` first."""
        self._compression.append(row)

    def add_robustness(self, figures: RobustnessFigures) -> None:
        """Add the metric under corruption to the figures of the stage that it is of."""
        self._compression = [
            row.model_copy(update={"robust": figures.score, "robustness": figures})
            if row.stage == figures.of
            else row
            for row in self._compression
        ]

    def add_encodings(self, encodings: dict[str, int]) -> None:
        """Add the encodings of the exported file's constants, if the last step was one on torch."""
        if self._compression and not self._compression[-1].encodings:
            self._compression[-1] = self._compression[-1].model_copy(update={"encodings": encodings})

    def add_tuning(self, tuning: TuningRow) -> None:
        """Add the tuning of a candidate for a target."""
        self._tuning.append(tuning)

    def add_error(self, error: ErrorRecord) -> None:
        """Add an error; without a target it belongs to the whole run. Equal errors of several candidates are listed once."""
        if error not in self._errors:
            self._errors.append(error)

    def check_gates(self, gates: Gates, *, steps_only: bool = False) -> tuple[Gate, ...]:
        """Check the recipe's gates on the figures so far, replacing earlier results; ``steps_only`` only those of steps."""
        steps = [row for row in self._compression if ": " not in row.stage]  # the release's
        self._gates = check_step_gates(gates, steps)
        if not steps_only:
            self._gates += check_gates(gates, self._all_rows(), steps)
        return self._gates

    def build(self, seconds: float = 0.0) -> Report:
        """The report so far; ``seconds`` is the duration of the run."""
        report = Report(
            run_id=self._run_id,
            started=self._started,
            seconds=seconds,
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
        places = list(dict.fromkeys((target, device) for target, device, _ in self._rows))
        targets = list(dict.fromkeys(target for target, _ in places))
        ordered = sorted(
            self._rows, key=lambda key: (targets.index(key[0]), places.index(key[:2]), key[2] != BASELINE)
        )
        rows = []
        for target, device, candidate in ordered:
            figures = self._rows[target, device, candidate]
            figures = {**figures, "warnings": (*figures.get("warnings", ()), *chance_warnings(figures))}
            still = {field: why for field, why in figures["missing"].items() if figures.get(field) is None}
            key = {"target": target, "device": device, "candidate": candidate, "missing": still}
            rows.append(Row(**{**figures, **key}))
        return tuple(rows)


def exit_code(report: Report) -> int:
    """The exit code of a run, as in edgepack/errors.py.

    In order of precedence: an interrupt; an error of the whole run; errors of targets (their own code if all targets
    failed with it on all devices, else 7); a failed gate. 0 means that the release may ship.
    """
    errors = report.errors
    if any(error.exit_code == Interrupted.exit_code for error in errors):
        return Interrupted.exit_code
    for error in errors:
        if error.target is None:
            return error.exit_code
    if errors:
        codes = {error.exit_code for error in errors}
        failed = {(error.target, error.device) for error in errors}
        everywhere = all(
            {(place.target, None), (place.target, place.device)} & failed for place in report.placements
        )
        return codes.pop() if everywhere and len(codes) == 1 else FleetError.exit_code
    return GateError.exit_code if any(gate.status == "failed" for gate in report.gates) else 0
