"""Gates: the recipe's requirements, checked against the measured figures."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from edgepack.config.gates import Gates, StepGates
from edgepack.measuring.measurement import Measurement
from edgepack.pipeline.step_gates import check_step, ratio, worsening
from edgepack.reporting.document import Gate, ModelRow, Row, Status
from edgepack.spec import ModelFigures, Score
from edgepack.spec.candidate import BASELINE, RELEASE

_KIB, _MIB_IN_KIB = 1024, 1024
_ROUNDINGS = 2  # accepted multiple of the effect of rounding: it is an estimate from few samples


@dataclass(frozen=True)
class _Value:
    """A gate's value, and why it is missing or not valid."""

    value: float | None = None
    why: str | None = None
    failed: bool = False  # a missing value that is itself a failure


@dataclass(frozen=True)
class _Case:
    """The release on one target and device, its baseline there, and the source model."""

    row: Row
    baseline: Row | None
    source: ModelFigures | None


_Rule = Callable[[_Case], _Value]


def check_gates(gates: Gates, rows: Iterable[Row], steps: Sequence[ModelRow] = ()) -> tuple[Gate, ...]:
    """Check every gate of the recipe on the release, for every target and device.

    ``steps`` are the model's figures after each stage, ``source`` first. A gate that failed names the first step after
    which it would have failed.

    A value equal to its limit passes. A gate is skipped, with the reason, if its value is missing or is meaningless on
    an emulated device; the error that caused a missing value has its own exit code.
    """
    by_key = {(row.target, row.device, row.candidate): row for row in rows}
    boards = Counter(target for target, _, candidate in by_key if candidate == RELEASE)
    results = []
    for (target, device, candidate), row in by_key.items():
        if candidate != RELEASE:
            continue
        case = _Case(row, by_key.get((target, device, BASELINE)), steps[0] if steps else None)
        named = device if boards[target] > 1 else None
        for name, rule in _RULES.items():
            limit = getattr(gates, name)
            if limit is not None:
                gate = Gate(name=name, target=target, device=named, limit=limit, status="passed")
                gate = _fit_limit(gate, row) if name == "parity" else gate
                results.append(_blamed(_check_limit(gate, rule(case), row), steps))
    return tuple(results)


def check_step_gates(gates: Gates, steps: Sequence[ModelRow]) -> tuple[Gate, ...]:
    """Check the gates of single steps of the release; ``steps`` as for ``check_gates``."""
    found = []
    for after in steps[1:]:
        for each in check_step(gates.after(after.stage), steps[0], after):
            status: Status = "failed" if each.failed else "skipped" if each.value is None else "passed"
            found.append(
                Gate(
                    name=each.name,
                    step=after.stage,
                    limit=each.limit,
                    value=each.value,
                    status=status,
                    why=each.why,
                )
            )
    return tuple(found)


def _blamed(gate: Gate, steps: Sequence[ModelRow]) -> Gate:
    """A failed gate with the first step after which the model does not keep it, if it is known after steps."""
    name = {"accuracy_drop": "metric_drop", "accuracy_min": "metric_limit"}.get(gate.name, gate.name)
    if gate.status != "failed" or name not in StepGates.model_fields or len(steps) < 2:  # noqa: PLR2004 - source and a step
        return gate
    alone = StepGates(**{name: gate.limit})
    for after in steps[1:]:
        if any(each.failed for each in check_step(alone, steps[0], after)):
            why = f"{gate.why}; {after.stage} broke it" if gate.why else f"{after.stage} broke it"
            return gate.model_copy(update={"step": after.stage, "why": why})
    return gate


def _fit_limit(gate: Gate, row: Row) -> Gate:
    """The parity gate with a limit that fits the release: values that are quantized may round to the next step."""
    fitting = _ROUNDINGS * (row.rounding or 0.0)
    if fitting <= gate.limit:
        return gate
    why = f"the limit is the effect of rounding to int8 or float16, above the recipe's {gate.limit:.6g}"
    return gate.model_copy(update={"limit": fitting, "why": why})


def _check_limit(gate: Gate, measured: _Value, row: Row) -> Gate:
    if measured.value is None:
        status = "failed" if measured.failed else "skipped"
        return gate.model_copy(update={"status": status, "why": measured.why})
    higher = row.score_board is None or row.score_board.higher_is_better
    low = gate.name == "accuracy_min" or (gate.name == "metric_limit" and higher)
    if measured.value < gate.limit if low else measured.value > gate.limit:
        why = f"{measured.value:.6g} is {'below' if low else 'above'} {gate.limit:.6g}"
        why = f"{why}; {measured.why}" if measured.why else why
        return gate.model_copy(update={"value": measured.value, "status": "failed", "why": why})
    return gate.model_copy(update={"value": measured.value, "why": measured.why or gate.why})


def _missing(row: Row, field: str) -> _Value:
    return _Value(why=row.missing.get(field) or f"{field} was not measured")


def _reference(case: _Case) -> Score | None:
    """The score that drops are measured from: the original model's in torch, or in onnxruntime if it is an .onnx file."""
    for row in (case.baseline, case.row):
        if row and row.score_torch is not None:
            return row.score_torch
    return case.baseline.score_onnxruntime if case.baseline else None


def _on_all_samples(row: Row) -> Score | None:
    """The board's score on the whole test split, as far as it is known: a board may run a part of it.

    That is onnxruntime's on all samples, and how much the board's differs from onnxruntime's on those that it ran: a drop of
    the score on other samples would be that of the samples.
    """
    board, same, whole = row.score_board, row.score_same, row.score_onnxruntime
    if board is None or same is None or whole is None or same.value == whole.value:
        return board
    return board.model_copy(update={"value": whole.value + (board.value - same.value)})


def _drop(case: _Case, *, relative: bool = False) -> _Value:
    if case.row.score_board is None:
        return _missing(case.row, "score_board")
    found = worsening(_reference(case), _on_all_samples(case.row), relative=relative)
    return _missing(case.row, "score_torch") if found is None else _Value(found)


def _score(case: _Case) -> _Value:
    found = _on_all_samples(case.row)
    return _missing(case.row, "score_board") if found is None else _Value(found.value)


def _robustness_drop(case: _Case) -> _Value:
    found = worsening(None if case.source is None else case.source.robust, case.row.robust)
    return _Value(why="robustness was not measured") if found is None else _Value(found)


def _parity(case: _Case) -> _Value:
    row = case.row
    if (
        row.parity is None and row.measurement is not None
    ):  # it ran: NaN where onnxruntime has none, or the reverse
        return replace(_missing(row, "parity"), failed=True)
    return _missing(row, "parity") if row.parity is None else _Value(row.parity)


def _latency(of: Callable[[Measurement], float]) -> _Rule:
    def rule(case: _Case) -> _Value:
        row = case.row
        if row.emulated:
            return _Value(why="emulated: latency says nothing about the real board")
        if row.measurement is None:
            return _missing(row, "measurement")
        return _Value(of(row.measurement), why=_doubt(row.measurement))

    return rule


def _doubt(measurement: Measurement) -> str | None:
    reasons = "; ".join(measurement.verdict.reasons)
    return f"not valid: {reasons}" if reasons else None


def _on_board_ratio(of: Callable[[Measurement], float], what: str) -> _Rule:
    def rule(case: _Case) -> _Value:
        row, baseline = case.row, case.baseline
        if row.emulated:
            return _Value(why=f"emulated: {what}")
        if row.measurement is None:
            return _missing(row, "measurement")
        if baseline is None or baseline.measurement is None:
            return _Value(why="the baseline was not measured")
        before, after = baseline.measurement, row.measurement
        return _Value(ratio(of(before), of(after)), why=_doubt(after) or _doubt(before))

    return rule


def _field(name: str, unit: int = 1) -> _Rule:
    def rule(case: _Case) -> _Value:
        found = getattr(case.row, name)
        return _missing(case.row, name) if found is None else _Value(found / unit)

    return rule


def _peak_rss_mib(case: _Case) -> _Value:
    if case.row.emulated:
        return _Value(why="emulated: the resident set includes the emulator")
    if case.row.measurement is None:
        return _missing(case.row, "measurement")
    return _Value(case.row.measurement.peak_rss_kib / _MIB_IN_KIB)


def _macs_ratio(case: _Case) -> _Value:
    before = case.source.macs if case.source else case.baseline.macs if case.baseline else None
    found = ratio(before, case.row.macs)
    return _missing(case.row, "macs") if found is None else _Value(found)


def _built_ratio(name: str) -> _Rule:
    def rule(case: _Case) -> _Value:
        before, after = (None if row is None else getattr(row, name) for row in (case.baseline, case.row))
        if before is None:
            why = case.baseline and case.baseline.missing.get(name)
            return _Value(why=f"the baseline was not built{f': {why}' if why else ''}")
        found = ratio(before, after)
        return _missing(case.row, name) if found is None else _Value(found)

    return rule


_RULES: dict[str, _Rule] = {
    "accuracy_drop": _drop,
    "accuracy_min": _score,
    "metric_drop": _drop,
    "metric_drop_relative": lambda case: _drop(case, relative=True),
    "metric_limit": _score,
    "robustness_drop": _robustness_drop,
    "parity": _parity,
    "p50_ms": _latency(lambda measured: measured.latency.p50),
    "p90_ms": _latency(lambda measured: measured.latency.p90),
    "p99_ms": _latency(lambda measured: measured.latency.p99),
    "latency_ratio": _on_board_ratio(
        lambda measured: measured.latency.p50, "latency says nothing about the real board"
    ),
    "macs": _field("macs"),
    "macs_ratio": _macs_ratio,
    "parameters": _field("parameters"),
    "nonzeros": _field("nonzeros"),
    "size_kib": _field("compiled_size", _KIB),
    "size_ratio": _built_ratio("compiled_size"),
    "weights_kib": _field("weights_size", _KIB),
    "weights_ratio": _built_ratio("weights_size"),
    "weights_memory_kib": _field("weights_memory", _KIB),
    "weights_memory_ratio": _built_ratio("weights_memory"),
    "bundle_kib": _field("bundle_size", _KIB),
    "peak_rss_mib": _peak_rss_mib,
    "peak_rss_ratio": _on_board_ratio(
        lambda measured: float(measured.peak_rss_kib), "the resident set includes the emulator"
    ),
}
