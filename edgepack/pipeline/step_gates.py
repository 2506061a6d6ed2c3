"""Gates of single steps: the model after a step compared with the source model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgepack.config.gates import StepGates
from edgepack.spec import ModelFigures, Score

_KIB = 1024
_Rule = Callable[[ModelFigures, ModelFigures], float | None]


@dataclass(frozen=True)
class CheckedGate:
    """A gate of a step with the value after it; None if there is none, and then why."""

    name: str
    limit: float
    value: float | None
    failed: bool
    why: str | None = None


def check_step(gates: StepGates, source: ModelFigures, after: ModelFigures) -> Iterator[CheckedGate]:
    """Check every gate on the model after a step; a gate without a value does not fail."""
    for name, rule in _RULES.items():
        limit = getattr(gates, name)
        if limit is None:
            continue
        value = rule(source, after)
        if value is None:
            yield CheckedGate(name, limit, None, failed=False, why="the figure is not known after this step")
            continue
        low = name == "metric_limit" and after.score is not None and after.score.higher_is_better
        failed = value < limit if low else value > limit
        why = f"{value:.6g} is {'below' if low else 'above'} {limit:.6g}" if failed else None
        yield CheckedGate(name, limit, value, failed, why)


def worsening(before: Score | None, after: Score | None, *, relative: bool = False) -> float | None:
    """How much worse a score is than another; as a share of the other if ``relative``. None if they cannot be compared."""
    if before is None or after is None or before.metric != after.metric:
        return None
    drop = before.drop_to(after.value)
    if not relative:
        return drop
    return drop / abs(before.value) if before.value else None


def ratio(before: float | None, after: float | None) -> float | None:
    """``after / before``; None if one is missing, or there was nothing before."""
    return after / before if before and after is not None else None


def _number(name: str) -> _Rule:
    return lambda _, after: getattr(after, name)


def _kib(name: str) -> _Rule:
    def rule(_: ModelFigures, after: ModelFigures) -> float | None:
        size = getattr(after, name)
        return None if size is None else size / _KIB

    return rule


def _ratio(name: str) -> _Rule:
    return lambda source, after: ratio(getattr(source, name), getattr(after, name))


_RULES: dict[str, _Rule] = {
    "metric_drop": lambda source, after: worsening(source.score, after.score),
    "metric_drop_relative": lambda source, after: worsening(source.score, after.score, relative=True),
    "metric_limit": lambda _, after: None if after.score is None else after.score.value,
    "robustness_drop": lambda source, after: worsening(source.robust, after.robust),
    "macs": _number("macs"),
    "macs_ratio": _ratio("macs"),
    "parameters": _number("parameters"),
    "nonzeros": _number("nonzeros"),
    "size_kib": _kib("size"),
    "size_ratio": _ratio("size"),
    "weights_kib": _kib("weights_size"),
    "weights_ratio": _ratio("weights_size"),
    "weights_memory_kib": _kib("weights_memory"),
    "weights_memory_ratio": _ratio("weights_memory"),
}
