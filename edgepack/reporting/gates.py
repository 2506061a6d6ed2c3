"""Gates: the recipe's requirements, checked against the measured figures."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from edgepack.config.recipe import Gates
from edgepack.reporting.document import Gate, Row
from edgepack.spec.candidate import BASELINE, RELEASE

_KIB, _MIB_IN_KIB = 1024, 1024
_AT_LEAST = {"accuracy_min"}  # gates whose limit is a minimum
_ROUNDINGS = 2  # accepted multiple of the effect of rounding: it is an estimate from few samples


@dataclass(frozen=True)
class _Value:
    """A gate's value, and why it is missing or not valid."""

    value: float | None = None
    why: str | None = None
    failed: bool = False  # a missing value that is itself a failure


_Rule = Callable[[Row, Row | None], _Value]


def check_gates(gates: Gates, rows: Iterable[Row]) -> tuple[Gate, ...]:
    """Check every gate of the recipe on the release, for every target and device.

    A value equal to its limit passes. A gate is skipped, with the reason, if its value is missing or is meaningless on
    an emulated device; the error that caused a missing value has its own exit code.
    """
    by_key = {(row.target, row.device, row.candidate): row for row in rows}
    boards = Counter(target for target, _, candidate in by_key if candidate == RELEASE)
    results = []
    for (target, device, candidate), row in by_key.items():
        if candidate != RELEASE:
            continue
        baseline = by_key.get((target, device, BASELINE))
        named = device if boards[target] > 1 else None
        for name, rule in _RULES.items():
            limit = getattr(gates, name)
            if limit is not None:
                gate = Gate(name=name, target=target, device=named, limit=limit, status="passed")
                gate = _fit_limit(gate, row) if name == "parity" else gate
                results.append(_check_limit(gate, rule(row, baseline)))
    return tuple(results)


def _fit_limit(gate: Gate, row: Row) -> Gate:
    """The parity gate with a limit that fits the release: values that are quantized may round to the next step."""
    fitting = _ROUNDINGS * (row.rounding or 0.0)
    if fitting <= gate.limit:
        return gate
    why = f"the limit is the effect of rounding to int8 or float16, above the recipe's {gate.limit:.6g}"
    return gate.model_copy(update={"limit": fitting, "why": why})


def _check_limit(gate: Gate, measured: _Value) -> Gate:
    if measured.value is None:
        status = "failed" if measured.failed else "skipped"
        return gate.model_copy(update={"status": status, "why": measured.why})
    low = gate.name in _AT_LEAST
    if measured.value < gate.limit if low else measured.value > gate.limit:
        why = f"{measured.value:.6g} is {'below' if low else 'above'} {gate.limit:.6g}"
        why = f"{why}; {measured.why}" if measured.why else why
        return gate.model_copy(update={"value": measured.value, "status": "failed", "why": why})
    return gate.model_copy(update={"value": measured.value, "why": measured.why or gate.why})


def _missing(row: Row, field: str) -> _Value:
    return _Value(why=row.missing.get(field) or f"{field} was not measured")


def _accuracy_drop(row: Row, baseline: Row | None) -> _Value:
    if row.accuracy_board is None:
        return _missing(row, "accuracy_board")
    for source in (baseline, row):
        if source and source.accuracy_torch is not None:
            return _Value(source.accuracy_torch - row.accuracy_board)
    # An .onnx model has no torch accuracy: the baseline in onnxruntime is the reference.
    if baseline and baseline.accuracy_onnxruntime is not None:
        return _Value(baseline.accuracy_onnxruntime - row.accuracy_board)
    return _missing(row, "accuracy_torch")


def _accuracy_min(row: Row, _: Row | None) -> _Value:
    return _missing(row, "accuracy_board") if row.accuracy_board is None else _Value(row.accuracy_board)


def _parity(row: Row, _: Row | None) -> _Value:
    if (
        row.parity is None and row.measurement is not None
    ):  # it ran: NaN where onnxruntime has none, or the reverse
        return replace(_missing(row, "parity"), failed=True)
    return _missing(row, "parity") if row.parity is None else _Value(row.parity)


def _p90_ms(row: Row, _: Row | None) -> _Value:
    if row.emulated:
        return _Value(why="emulated: latency says nothing about the real board")
    if row.measurement is None:
        return _missing(row, "measurement")
    reasons = "; ".join(row.measurement.verdict.reasons)
    return _Value(row.measurement.latency.p90, why=f"not valid: {reasons}" if reasons else None)


def _bundle_kib(row: Row, _: Row | None) -> _Value:
    return _missing(row, "bundle_size") if row.bundle_size is None else _Value(row.bundle_size / _KIB)


def _peak_rss_mib(row: Row, _: Row | None) -> _Value:
    if row.emulated:
        return _Value(why="emulated: the resident set includes the emulator")
    if row.measurement is None:
        return _missing(row, "measurement")
    return _Value(row.measurement.peak_rss_kib / _MIB_IN_KIB)


_RULES: dict[str, _Rule] = {
    "accuracy_drop": _accuracy_drop,
    "accuracy_min": _accuracy_min,
    "parity": _parity,
    "p90_ms": _p90_ms,
    "bundle_kib": _bundle_kib,
    "peak_rss_mib": _peak_rss_mib,
}
