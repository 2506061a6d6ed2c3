"""What a student learns from: inputs, their targets if there are any, and outputs that teachers gave before."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepack.compression.context import Context
from edgepack.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from edgepack.data import Splits

_STORED = "stored outputs of the teachers "  # before the number, in a batch's targets
_TARGET = "target"


@dataclass(frozen=True)
class Lessons:
    """Samples for training a student.

    Attributes:
        splits: its training split holds the inputs; its targets are a dict, or None if there is nothing but inputs.
        targets: the names of the recipe's targets in that dict; empty without labels.
        single: whether the recipe has one target, without a name.
        stored: how many stored outputs the dict holds.
    """

    splits: "Splits"
    targets: tuple[str, ...]
    single: bool
    stored: int

    @property
    def classifies(self) -> bool:
        """Whether there are targets, and all are class numbers."""
        y = self.splits.y_train
        return bool(self.targets) and all(y[name].dtype.kind in "iu" for name in self.targets)

    def labels(self, given: Any) -> Any:
        """The recipe's targets in those of a batch; None without."""
        if not self.targets:
            return None
        return given[self.targets[0]] if self.single else {name: given[name] for name in self.targets}

    def outputs(self, given: Any) -> tuple[Any, ...]:
        """The stored outputs in the targets of a batch."""
        return tuple(given[f"{_STORED}{number}"] for number in range(self.stored))


def lessons(context: Context, outputs: str | None) -> Lessons:
    """Return the samples: those of a file of stored outputs, of the training split, or the recipe's without labels.

    Args:
        context: of the step.
        outputs: an .npz file with ``output``, or ``output_0`` …, each ``[N, ...]``, and the inputs by name, unless they
            are the recipe's.

    Raises:
        InputError: there are no samples, or the file does not fit.
    """
    from edgepack.data import Splits
    from edgepack.data.splits import count_samples, take

    path = None if outputs is None else context.path(outputs)
    stored, x = ({}, None) if path is None else _read(path, context)
    y: Any = None
    if x is None:
        x, y = _recipe(context)
    single = y is not None and not isinstance(y, Mapping)
    targets = {_TARGET: y} if single else dict(y or {})
    count = count_samples(x)
    for name, array in stored.items():
        if len(array) != count:
            raise InputError(
                f"{name} has {len(array)} samples, and there are {count} inputs",
                where=str(path),
                next="store the teacher's outputs of these inputs, in their order",
            )
    kept = {f"{_STORED}{number}": array for number, array in enumerate(stored.values())}
    given = {**targets, **kept} or None
    splits = Splits(x, given, take(x, slice(0, 1)), take(given, slice(0, 1)))
    return Lessons(splits, tuple(targets), single, len(kept))


def _recipe(context: Context) -> tuple[Any, Any]:
    if context.data is not None:
        return context.data.x_train, context.data.y_train
    if context.samples is None:
        raise InputError(
            "distill needs samples", next="add a data block or `samples` to the recipe, or `outputs`"
        )
    merged = {each.name: _merged(context.samples[each.name], each.shape) for each in context.inputs}
    return (merged if len(merged) > 1 else next(iter(merged.values()))), None


def _merged(array: "np.ndarray", shape: tuple[int, ...]) -> "np.ndarray":
    """Samples ``[N, batch, ...]`` as ``[N * batch, ...]``."""
    return array.reshape(-1, *shape[1:]) if array.ndim > len(shape) else array


def _read(path: "Path", context: Context) -> "tuple[dict[str, np.ndarray], Any]":
    """The outputs in a file, in their order, and the inputs if it has them."""
    import numpy as np

    from edgepack.data.inputs_file import read_arrays

    arrays, names = read_arrays(path), [each.name for each in context.inputs]
    given = {name: arrays[name] for name in names if name in arrays}
    rest = {name: array for name, array in arrays.items() if name not in given}
    numbered = [f"output_{number}" for number in range(len(rest))]
    if sorted(rest) != sorted(numbered) and list(rest) != ["output"]:
        raise InputError(
            f"the file holds {', '.join(arrays) or 'nothing'}",
            where=str(path),
            next=f"name the outputs `output`, or `output_0` and so on, and the inputs {', '.join(names)}",
        )
    if given and len(given) < len(names):
        missing = next(name for name in names if name not in given)
        raise InputError(f"there is no array for the input `{missing}`", where=str(path))
    stored = {name: rest[name].astype(np.float32) for name in (numbered if len(rest) > 1 else rest)}
    if not all(np.isfinite(array).all() for array in stored.values()):
        raise InputError("the stored outputs hold NaN or an infinity", where=str(path))
    if not given:
        return stored, None
    merged = {each.name: _merged(given[each.name].astype(each.dtype), each.shape) for each in context.inputs}
    return stored, merged if len(merged) > 1 else next(iter(merged.values()))
