"""The result of every data source: checked arrays, split into training and test samples."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepack.errors import InputError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Splits:
    """Samples ``x``, shape ``[N, ...]`` with the model's input shape without its batch axis, and labels ``y``, int64 ``[N]``.

    Training, calibration and the vocabulary use the training split only; accuracy uses the test split.
    """

    x_train: "np.ndarray"
    y_train: "np.ndarray"
    x_test: "np.ndarray"
    y_test: "np.ndarray"
    classes: tuple[str, ...] = ()  # the name of each label, where the source has names
    vocabulary: tuple[str, ...] = ()  # the word of each token id, for word tokenizers


def check_splits(splits: Splits, where: str) -> Splits:
    """``splits`` with labels as int64 and arrays contiguous.

    Raises:
        InputError: if samples and labels differ in number, a split is empty, shapes differ between the
            splits, labels are not integers from 0, or a sample holds NaN or an infinity.
    """
    import numpy as np

    arrays: dict[str, np.ndarray] = {}
    for name in ("x_train", "y_train", "x_test", "y_test"):
        value = getattr(splits, name)
        if not isinstance(value, np.ndarray):
            raise InputError(f"{name} is a {type(value).__name__}, not a numpy array", where=where)
        arrays[name] = value
    for split in ("train", "test"):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if x.ndim == 0 or len(x) == 0:
            raise InputError(f"x_{split} is empty", where=where)
        if y.shape != (len(x),):
            raise InputError(
                f"x_{split} has {len(x)} samples and y_{split} the shape {list(y.shape)}", where=where
            )
        if not np.issubdtype(y.dtype, np.integer) or y.min() < 0:
            raise InputError(
                f"y_{split} must hold class numbers from 0", where=where, why=f"its dtype is {y.dtype}"
            )
        if x.dtype.kind not in "fiub":
            raise InputError(
                f"x_{split} has dtype {x.dtype}", where=where, next="store numbers, not objects or text"
            )
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            bad = int(np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(axis=1))[0])
            raise InputError(f"x_{split} holds NaN or an infinity", where=f"{where}, sample {bad}")
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        raise InputError(
            f"a training sample is {list(arrays['x_train'].shape[1:])}, a test sample {list(arrays['x_test'].shape[1:])}",
            where=where,
        )
    return Splits(
        **{
            name: np.ascontiguousarray(array, dtype=np.int64 if name[0] == "y" else array.dtype)
            for name, array in arrays.items()
        },
        classes=tuple(splits.classes),
        vocabulary=tuple(splits.vocabulary),
    )


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


def majority_share(y: "np.ndarray") -> float:
    """Share (0..1) of the most frequent of integer labels ``[N]``: the accuracy of a constant answer."""
    import numpy as np

    return float(np.bincount(y).max() / len(y))


_SCORES = "let the model's first output be [batch, classes]"


def require_classes(outputs: "np.ndarray", y: "np.ndarray") -> None:
    """Check that a classifier's outputs have a score for each of the labels ``y``.

    Raises:
        InputError: the outputs are not ``[N, classes]``, or a label has none.
    """
    rows = 2
    if outputs.ndim != rows:
        raise InputError(
            f"accuracy needs one row of class scores per sample; the output is {list(outputs.shape)}",
            next=_SCORES,
        )
    if len(y) and int(y.max()) >= outputs.shape[1]:
        raise InputError(f"label {int(y.max())} has no output: the model has {outputs.shape[1]} classes")


def top1(outputs: "np.ndarray", y: "np.ndarray") -> float:
    """Share (0..1) of rows of ``outputs`` ``[N, classes]`` whose largest value is at the label ``y`` ``[N]``.

    Raises:
        InputError: if the shapes do not match, or a label has no output.
    """
    if len(outputs) != len(y):
        raise InputError(
            f"accuracy needs one row of class scores per sample; the output is {list(outputs.shape)} for {len(y)} labels",
            next=_SCORES,
        )
    require_classes(outputs, y)
    return float((outputs.argmax(axis=1) == y).mean())
