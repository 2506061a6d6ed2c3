"""The result of every data source: checked arrays, split into training and test samples."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgepack.base.text import near_miss
from edgepack.errors import InputError

if TYPE_CHECKING:
    import hashlib

    import numpy as np

    from edgepack.spec import Input

Arrays = Any
"""One array ``[N, ...]``, or several by name, each ``[N, ...]`` with the same N."""

IGNORED = -100  # a target that losses and metrics leave out, as in torch


@dataclass(frozen=True)
class Splits:
    """Samples ``x`` and targets ``y``, split into training and test samples.

    ``x`` is an array ``[N, ...]`` with the input's shape without its batch axis or, for a model with several inputs, a
    dict of such arrays by input name. ``y`` is an array ``[N, ...]``, a dict of arrays by names of one's own, or None
    without targets. Class numbers are integers from 0, ``[N]`` or with further axes for masks and tokens, and -100 where
    a target does not count; other targets are floating-point numbers.

    Training, calibration and the vocabulary use the training split only; the metric uses the test split.
    """

    x_train: Arrays
    y_train: Arrays
    x_test: Arrays
    y_test: Arrays
    classes: tuple[str, ...] = ()  # the name of each class, where the source has names
    vocabulary: tuple[str, ...] = ()  # the word of each token id, for word tokenizers


def arrays_of(values: Arrays) -> "tuple[np.ndarray, ...]":
    """The arrays of ``values``, in their order; none if it is None."""
    if values is None:
        return ()
    return tuple(values.values()) if isinstance(values, Mapping) else (values,)


def hash_arrays(found: "hashlib._Hash", arrays: "Iterable[np.ndarray]") -> None:
    """Add types, shapes and elements to a hash."""
    import numpy as np

    for array in arrays:
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)


def count_samples(values: Arrays) -> int:
    """The number of samples of one array or several."""
    return len(arrays_of(values)[0])


def take(values: Arrays, rows: Any) -> Arrays:
    """The rows of one array or of each; ``rows`` is what NumPy indexes with."""
    if isinstance(values, Mapping):
        return {name: array[rows] for name, array in values.items()}
    return None if values is None else values[rows]


def check_splits(splits: Splits, where: str) -> Splits:
    """``splits`` with integer targets as int64, others as float32, and arrays contiguous.

    Raises:
        InputError: if samples and targets differ in number, a split is empty, names or shapes differ between the splits,
            class numbers are negative, or an array holds NaN or an infinity.
    """
    checked: dict[str, Arrays] = {}
    for split in ("train", "test"):
        x, y = (_plain(getattr(splits, f"{part}_{split}"), f"{part}_{split}", where) for part in "xy")
        if x is None:
            raise InputError(f"x_{split} is a NoneType, not a numpy array", where=where)
        count = _check_samples(x, f"x_{split}", where)
        for name, array in _named(y, f"y_{split}"):
            _check_target(array, name, f"x_{split}", count, where)
        checked |= {f"x_{split}": _contiguous(x), f"y_{split}": _contiguous(y, targets=True)}
    for part, what in (("x", "sample"), ("y", "target")):
        ours, others = (_shapes(checked[f"{part}_{split}"]) for split in ("train", "test"))
        if ours != others:
            raise InputError(f"a training {what} is {ours}, a test {what} {others}", where=where)
    return Splits(**checked, classes=tuple(splits.classes), vocabulary=tuple(splits.vocabulary))


def _plain(values: Arrays, name: str, where: str) -> Arrays:
    """The arrays as they are, once each is one."""
    import numpy as np

    for own, array in _named(values, name):
        if not isinstance(array, np.ndarray):
            raise InputError(f"{own} is a {type(array).__name__}, not a numpy array", where=where)
    if isinstance(values, Mapping) and not (values and all(isinstance(key, str) for key in values)):
        raise InputError(f"{name} must hold arrays by name", where=where, why=f"it holds {list(values)}")
    return values


def _named(values: Arrays, name: str) -> "list[tuple[str, np.ndarray]]":
    if isinstance(values, Mapping):
        return [(f"{name}[{key!r}]", array) for key, array in values.items()]
    return [] if values is None else [(name, values)]


def _check_samples(values: Arrays, name: str, where: str) -> int:
    import numpy as np

    named = _named(values, name)
    for own, x in named:
        if x.ndim == 0 or len(x) == 0:
            raise InputError(f"{own} is empty", where=where)
        if x.dtype.kind not in "fiub":
            raise InputError(
                f"{own} has dtype {x.dtype}", where=where, next="store numbers, not objects or text"
            )
        if len(x) != len(named[0][1]):
            raise InputError(f"{own} has {len(x)} samples and {named[0][0]} {len(named[0][1])}", where=where)
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            bad = int(np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(axis=1))[0])
            raise InputError(f"{own} holds NaN or an infinity", where=f"{where}, sample {bad}")
    return len(named[0][1])


def _check_target(y: "np.ndarray", name: str, samples: str, count: int, where: str) -> None:
    import numpy as np

    if y.ndim == 0 or len(y) != count:
        raise InputError(f"{samples} has {count} samples and {name} the shape {list(y.shape)}", where=where)
    if y.dtype.kind not in "fiub":
        raise InputError(
            f"{name} has dtype {y.dtype}",
            where=where,
            next="store class numbers from 0, or floating-point numbers",
        )
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise InputError(f"{name} holds NaN or an infinity", where=where)
    if y.dtype.kind in "iu" and y.size and ((y < 0) & (y != IGNORED)).any():
        raise InputError(
            f"{name} must hold class numbers from 0 (or {IGNORED} where a target does not count)",
            where=where,
            why=f"it holds {int(y[(y < 0) & (y != IGNORED)][0])}",
            next="store numbers that are not classes as floating-point numbers",
        )


def _contiguous(values: Arrays, *, targets: bool = False) -> Arrays:
    import numpy as np

    def one(array: "np.ndarray") -> "np.ndarray":
        dtype = (np.float32 if array.dtype.kind == "f" else np.int64) if targets else array.dtype
        return np.ascontiguousarray(array, dtype=dtype)

    if isinstance(values, Mapping):
        return {name: one(array) for name, array in values.items()}
    return None if values is None else one(values)


def _shapes(values: Arrays) -> Any:
    if isinstance(values, Mapping):
        return {name: list(array.shape[1:]) for name, array in values.items()}
    return None if values is None else list(values.shape[1:])


def fit_inputs(splits: Splits, inputs: "Sequence[Input]") -> Splits:
    """``splits`` with the samples of a model with several inputs in the model's order and dtypes.

    Raises:
        InputError: an input has no samples, or there are samples for something that is no input; or shapes or dtypes do
            not fit.
    """
    if len(inputs) <= 1 and not isinstance(splits.x_train, Mapping):
        return splits  # the model says what does not fit
    parts = {name: _fit(getattr(splits, name), name, inputs) for name in ("x_train", "x_test")}
    return replace(splits, **parts)


def _fit(values: Arrays, name: str, inputs: "Sequence[Input]") -> Arrays:
    import numpy as np

    known = [given.name for given in inputs]
    if not isinstance(values, Mapping):
        raise InputError(
            f"{name} is one array, and the model has {len(inputs)} inputs: {', '.join(known)}",
            where="data",
            next="give a dict of arrays by input name",
        )
    for given in values:
        if given not in known:
            raise InputError(
                f"{name} has samples for {given!r}, which is no input of the model"
                f"{near_miss(given, known, say='it has:', quote=chr(39))}",
                where="data",
            )
    fitted = {}
    for given in inputs:
        if given.name not in values:
            raise InputError(f"{name} has no samples for the input {given.name!r}", where="data")
        array, dtype = values[given.name], np.dtype(given.dtype)
        if tuple(array.shape[1:]) != tuple(given.shape[1:]) or not given.shape:
            raise InputError(
                f"samples of {given.name!r} have the shape {list(array.shape[1:])}, and the input takes {list(given.shape)}",
                where="data",
                next="the first axis of every input is the batch; the other axes are those of a sample",
            )
        if not np.can_cast(array.dtype, dtype, "same_kind"):
            raise InputError(
                f"samples of {given.name!r} are {array.dtype}, and the input takes {dtype}", where="data"
            )
        fitted[given.name] = np.ascontiguousarray(array, dtype=dtype)
    return fitted if len(inputs) > 1 else fitted[inputs[0].name]


def stratified_split(
    y: "np.ndarray", test_fraction: float, seed: int
) -> "tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int64]]]":
    """Indices of the training and test samples, stratified by class.

    Deterministic for a ``seed``. A class with a single sample goes to training; every other class has at
    least one sample in each split.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    train, test = [], []
    for label in np.unique(y):
        members = generator.permutation(np.flatnonzero(y == label))
        wanted = round(len(members) * test_fraction)
        n_test = min(max(wanted, 1), len(members) - 1)
        test.append(members[:n_test])
        train.append(members[n_test:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def random_split(
    count: int, test_fraction: float, seed: int
) -> "tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int64]]]":
    """Indices of the training and test samples of ``count`` samples without classes; at least one of each for two."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(count)
    n_test = min(max(round(count * test_fraction), 1), count - 1)
    return np.sort(order[n_test:]), np.sort(order[:n_test])
