"""Gates: what the recipe demands of a release, checked against what was measured."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgepack.config.recipe import Gates
from edgepack.engine.outcome import Variant
from edgepack.report.document import Gate, Row

_KIB, _MIB_IN_KIB = 1024, 1024


@dataclass(frozen=True)
class _Value:
    """A gate's value, or why there is none."""

    value: float | None = None
    why: str | None = None


_Rule = Callable[[Row, Row | None], _Value]


def check_gates(gates: Gates, rows: Iterable[Row]) -> tuple[Gate, ...]:
    """Every gate the recipe sets, on the release of every target.

    A value equal to its limit passes. A gate whose value is missing, or whose figure means nothing on an
    emulated device, is skipped and says why; the error that made it missing has its own exit code.
    """
    by_key: dict[tuple[str, Variant], Row] = {(row.target, row.variant): row for row in rows}
    results = []
    for (target, variant), row in by_key.items():
        if variant == "release":
            baseline = by_key.get((target, "baseline"))
            for name, rule in _RULES.items():
                limit = getattr(gates, name)
                if limit is not None:
                    results.append(_judge(name, target, limit, rule(row, baseline)))
    return tuple(results)


def _judge(name: str, target: str, limit: float, found: _Value) -> Gate:
    if found.value is None:
        return Gate(name=name, target=target, limit=limit, status="skipped", why=found.why)
    if found.value > limit:
        why = f"{found.value:.6g} is above {limit:.6g}"
        return Gate(name=name, target=target, limit=limit, value=found.value, status="failed", why=why)
    return Gate(name=name, target=target, limit=limit, value=found.value, status="passed")


def _missing(row: Row, field: str) -> _Value:
    return _Value(why=row.missing.get(field) or f"{field} was not measured")


def _accuracy_drop(row: Row, baseline: Row | None) -> _Value:
    if row.accuracy_board is None:
        return _missing(row, "accuracy_board")
    for source in (baseline, row):
        if source and source.accuracy_torch is not None:
            return _Value(source.accuracy_torch - row.accuracy_board)
    # A model that came as ONNX never was in torch: its own fp32 run is the reference.
    if baseline and baseline.accuracy_onnxruntime is not None:
        return _Value(baseline.accuracy_onnxruntime - row.accuracy_board)
    return _missing(row, "accuracy_torch")


def _parity(row: Row, _: Row | None) -> _Value:
    return _missing(row, "parity") if row.parity is None else _Value(row.parity)


def _p90_ms(row: Row, _: Row | None) -> _Value:
    if row.emulated:
        return _Value(why="emulated: latency says nothing about the real board")
    return _Value(row.measurement.latency.p90) if row.measurement else _missing(row, "measurement")


def _bundle_kib(row: Row, _: Row | None) -> _Value:
    return _missing(row, "bundle_size") if row.bundle_size is None else _Value(row.bundle_size / _KIB)


def _peak_rss_mib(row: Row, _: Row | None) -> _Value:
    if row.emulated:
        return _Value(why="emulated: the resident set holds the emulator too")
    if row.measurement is None:
        return _missing(row, "measurement")
    return _Value(row.measurement.peak_rss_kib / _MIB_IN_KIB)


_RULES: dict[str, _Rule] = {
    "accuracy_drop": _accuracy_drop,
    "parity": _parity,
    "p90_ms": _p90_ms,
    "bundle_kib": _bundle_kib,
    "peak_rss_mib": _peak_rss_mib,
}
