"""A recipe's metric of outputs and targets."""

from collections.abc import Callable, Sequence
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
class Tally:
    """A metric, and what it was computed from.

    Attributes:
        value: the metric.
        counted: for each target, ``[N, K]``: what the samples add to the sums that the metric is a figure of; nothing if a
            user's callable returned one number for all of them.
    """

    value: float
    counted: "tuple[np.ndarray, ...]"


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
        return self.tally(outputs, targets).value

    def tally(self, outputs: "Sequence[np.ndarray]", targets: Arrays) -> Tally:
        """The metric, and what each sample adds to it.

        Raises:
            InputError: as ``value``.
        """
        import numpy as np

        built_in = self._built_in(targets)
        if built_in is None:
            found = self._of_user(outputs, targets)(slice(None))
            value = self._finite(float(found.mean()), targets)
            return Tally(value, (np.stack([found, np.ones(len(found))], axis=1),) if found.ndim else ())
        counted = _counted(built_in, outputs, targets)
        sums = [each.sum(axis=0) for each in counted]
        return Tally(self._finite(_mean(built_in, sums), targets), tuple(counted))

    def mean(self, tallies: Sequence[Tally], targets: Arrays) -> Score:
        """The mean of the metric over several outputs for the same samples, with its 95 % interval.

        The interval is for other samples, not for other outputs: each draw of the bootstrap has all outputs of a sample, as
        they are not independent. There is none with a user's callable that returns one number for all samples.
        """
        import numpy as np

        value = float(np.mean([tally.value for tally in tallies]))
        counted = [each for tally in tallies for each in tally.counted]
        figured = self._built_in(targets) or METRICS["mse"]
        return self._score(value, _interval(figured, counted) if counted else None, targets)

    def score(self, outputs: "Sequence[np.ndarray]", targets: Arrays) -> Score:
        """The metric with its 95 % interval.

        Raises:
            InputError: as ``value``.
        """
        tally = self.tally(outputs, targets)
        if tally.counted:
            return self.mean([tally], targets)
        again = self._of_user(outputs, targets)
        count = len(arrays_of(targets)[0])
        return self._score(
            tally.value, by_spread(tally.value, count, lambda rows: float(again(rows))), targets
        )

    def _score(self, value: float, interval: tuple[float, float] | None, targets: Arrays) -> Score:
        low, high = interval or (None, None)
        return Score(
            metric=self.name(targets),
            value=value,
            low=low,
            high=high,
            higher_is_better=self.higher_is_better(targets),
            samples=len(arrays_of(targets)[0]),
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

    def _of_user(self, outputs: "Sequence[np.ndarray]", targets: Arrays) -> "Callable[[Any], np.ndarray]":
        """What calls the user's function for the samples of some numbers: one value ``[]``, or one for each ``[N]``."""
        reference = self.metric.name or ""
        count = len(arrays_of(targets)[0])
        with importable(self.base):
            function = resolve(reference, self.base)

        def found(rows: Any) -> "np.ndarray":
            given = tuple(output[rows] for output in outputs)
            with importable(self.base):
                result = call_user_code(
                    function,
                    reference,
                    self.base,
                    given[0] if len(given) == 1 else given,
                    take(targets, rows),
                )
            return self._plain(result, count)

        return found

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
