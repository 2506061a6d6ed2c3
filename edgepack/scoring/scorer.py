"""A recipe's metric of outputs and targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.data.splits import Arrays, arrays_of, take
from edgepack.data.user_code import call_user_code, importable, resolve
from edgepack.errors import InputError
from edgepack.scoring.classes import class_axis, require_outputs
from edgepack.scoring.intervals import bootstrap, by_spread, wilson
from edgepack.scoring.metrics import METRICS, BuiltIn
from edgepack.spec import Metric, Score

if TYPE_CHECKING:
    import numpy as np

_DEFAULT = Metric()


@dataclass(frozen=True)
class Scorer:
    """Computes the metric of a model's outputs.

    Outputs are the model's, in order, each ``[N, ...]``. Targets are an array ``[N, ...]`` or several by name. A built-in
    metric compares the first target with the first output, the second with the second and so on, and is the mean over
    these; outputs without a target do not count. A user's callable gets the one output, or the tuple of all, and the
    targets as the data has them; it returns a number, or one for each sample, whose mean is the metric.

    Attributes:
        metric: the recipe's.
        base: the recipe's folder.
    """

    metric: Metric = _DEFAULT
    base: Path = Path()

    @property
    def of_source(self) -> bool:
        """Whether the targets are the source model's outputs."""
        return self.metric.name in METRICS and METRICS[self.metric.name].of_source

    def name(self, targets: Arrays) -> str:
        """The metric's name: without one in the recipe, accuracy for integer targets and mse for others."""
        if self.metric.name is None:
            integers = all(array.dtype.kind in "iub" for array in arrays_of(targets))
            return "accuracy" if integers else "mse"
        return self.metric.name.rpartition(":")[2]

    def higher_is_better(self, targets: Arrays) -> bool:
        """Whether a larger value is better."""
        built_in = self._built_in(targets)
        return self.metric.higher_is_better is not False if built_in is None else built_in.higher_is_better

    def value(self, outputs: "Sequence[np.ndarray]", targets: Arrays) -> float:
        """The metric.

        Raises:
            InputError: outputs and targets do not fit, the metric is not a number, or the user's code fails.
        """
        built_in = self._built_in(targets)
        if built_in is None:
            return self._of_user(outputs, targets)[0]
        counted = _counted(built_in, outputs, targets)
        return self._finite(_mean(built_in, [each.sum(axis=0) for each in counted]), targets)

    def score(self, outputs: "Sequence[np.ndarray]", targets: Arrays) -> Score:
        """The metric with its 95 % interval.

        Raises:
            InputError: as ``value``.
        """
        count = len(arrays_of(targets)[0])
        built_in = self._built_in(targets)
        if built_in is None:
            value, interval = self._of_user(outputs, targets, interval=True)
        else:
            counted = _counted(built_in, outputs, targets)
            value = self._finite(_mean(built_in, [each.sum(axis=0) for each in counted]), targets)
            interval = _interval(built_in, counted)
        low, high = interval or (None, None)
        return Score(
            metric=self.name(targets),
            value=value,
            low=low,
            high=high,
            higher_is_better=self.higher_is_better(targets),
            samples=count,
        )

    def check(self, outputs: "Sequence[np.ndarray]", targets: Arrays) -> None:
        """Check that the outputs of a few samples fit all targets, where the metric is one of classes.

        Raises:
            InputError: an output has no score for a class of the targets, or the shapes do not fit.
        """
        import numpy as np

        if self.name(targets) not in {"accuracy", "top5", "f1", "miou"}:
            return
        for output, target in _pairs(outputs, targets):
            if not np.issubdtype(target.dtype, np.integer):
                raise InputError(
                    f"the metric {self.name(targets)} needs class numbers; targets are {target.dtype}",
                    where="metric",
                    next="set metric: mse, or store class numbers from 0 as integers",
                )
            axis = class_axis(output.shape, (len(output), *target.shape[1:]))
            require_outputs(target, 1 if axis is None else output.shape[axis])

    def _built_in(self, targets: Arrays) -> BuiltIn | None:
        name = self.metric.name or self.name(targets)
        return METRICS.get(name)

    def _of_user(
        self, outputs: "Sequence[np.ndarray]", targets: Arrays, *, interval: bool = False
    ) -> tuple[float, tuple[float, float] | None]:
        """The value of the user's callable, and its interval if wanted."""
        import numpy as np

        reference = self.metric.name or ""
        count = len(arrays_of(targets)[0])
        with importable(self.base):
            function = resolve(reference, self.base)

            def found(rows: Any) -> "np.ndarray":
                given = tuple(output[rows] for output in outputs)
                result = call_user_code(
                    function,
                    reference,
                    self.base,
                    given[0] if len(given) == 1 else given,
                    take(targets, rows),
                )
                return self._plain(result, count)

            values = found(slice(None))
            value = self._finite(float(values.mean()), targets)
            if not interval:
                return value, None
            if values.ndim:
                columns = np.stack([values, np.ones(count)], axis=1)
                return value, bootstrap(columns, METRICS["mse"].figure)
            return value, by_spread(value, count, lambda rows: float(found(rows)))

    def _plain(self, result: Any, count: int) -> "np.ndarray":
        import numpy as np

        try:
            values = np.asarray(result, dtype=np.float64)
        except (TypeError, ValueError):
            values = np.zeros((0, 0))
        if values.shape not in {(), (count,)}:
            raise InputError(
                f"{self.metric.name} returned {str(result)[:60]}",
                where="metric",
                next=f"return a number, or an array of one for each of the {count} samples",
            )
        return values

    def _finite(self, value: float, targets: Arrays) -> float:
        import numpy as np

        if not np.isfinite(value):
            raise InputError(
                f"the metric {self.name(targets)} is {value}",
                why="the model's outputs hold NaN or infinity",
                next="lower the learning rate if the model was trained, or check its inputs",
            )
        return value


def _pairs(outputs: "Sequence[np.ndarray]", targets: Arrays) -> "list[tuple[np.ndarray, np.ndarray]]":
    wanted = arrays_of(targets)
    if len(outputs) < len(wanted):
        raise InputError(
            f"the model has {len(outputs)} outputs for {len(wanted)} targets",
            next="give a target for each of the first outputs, or a metric of your own: metric: module:callable",
        )
    return list(zip(outputs, wanted, strict=False))


def _counted(metric: BuiltIn, outputs: "Sequence[np.ndarray]", targets: Arrays) -> "list[np.ndarray]":
    pairs = _pairs(outputs, targets)
    for output, target in pairs:
        if len(output) != len(target) or not len(target):
            raise InputError(
                f"the output is {list(output.shape)} for {len(target)} targets",
                next="let the first axis of the model's outputs be the batch",
            )
    return [metric.count(output, target) for output, target in pairs]


def _mean(metric: BuiltIn, sums: "list[np.ndarray]") -> float:
    return float(sum(metric.figure(each) for each in sums) / len(sums))


def _interval(metric: BuiltIn, counted: "list[np.ndarray]") -> tuple[float, float] | None:
    import numpy as np

    if metric.share and len(counted) == 1 and (counted[0][:, 1] == 1).all():
        right, count = counted[0].sum(axis=0)
        return wilson(float(right), float(count))
    ends = np.cumsum([each.shape[1] for each in counted])[:-1]

    def figure(sums: "np.ndarray") -> "np.ndarray":
        parts = [metric.figure(part) for part in np.split(sums, ends, axis=-1)]
        return np.asarray(sum(parts) / len(parts))

    return bootstrap(np.concatenate(counted, axis=1), figure)
