"""Inputs without labels that the user brings: an .npz file with one array per input of the model."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base.text import near_miss
from edgepack.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from edgepack.spec import Input

_HOW = "numpy.savez(path, NAME=array, ...): one array per input, all samples one after the other along its first axis"


def load_inputs(path: Path, inputs: "Sequence[Input]") -> "dict[str, np.ndarray]":
    """Return the samples of ``path`` by input, each ``[N, *shape]`` in the input's dtype.

    In the file, an array is ``[N * batch, ...]``, where ``[batch, ...]`` is the input's shape, or ``[N, *shape]``.

    Raises:
        InputError: the file cannot be read, or names, shapes, dtypes or numbers of samples do not fit, or it has NaN.
    """
    arrays = read_arrays(path)
    problems = list(_names(arrays, inputs))
    found = {}
    for given in inputs:
        if given.name in arrays:
            array, problem = _fit(arrays[given.name], given)
            problems += [problem] if problem else []
            found[given.name] = array
    counts = {name: len(array) for name, array in found.items()}
    if not problems and len(set(counts.values())) > 1:
        shown = ", ".join(f"{name}: {count}" for name, count in counts.items())
        problems.append(f"the inputs have different numbers of samples ({shown})")
    if problems:
        raise InputError("; ".join(problems), where=str(path), next=f"write it with {_HOW}")
    return found


def read_arrays(path: Path) -> "dict[str, np.ndarray]":
    """Return the arrays of an .npz file by name.

    Raises:
        InputError: there is no such file, or it holds anything else.
    """
    import numpy as np

    if not path.is_file():
        raise InputError("there is no such file of samples", where=str(path))
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise InputError(
            "the file is not an .npz of plain arrays",
            where=str(path),
            why=str(error),
            next=f"write it with {_HOW}",
        ) from error


def _names(arrays: "dict[str, Any]", inputs: "Sequence[Input]") -> list[str]:
    known = [given.name for given in inputs]
    missing = [
        f"there is no array `{name}`; it has: {', '.join(arrays) or 'none'}"
        for name in known
        if name not in arrays
    ]
    unknown = [
        f"the model has no input `{name}`{near_miss(name, known, say='it has:')}"
        for name in arrays
        if name not in known
    ]
    return missing + unknown


def _fit(array: "np.ndarray", given: "Input") -> "tuple[np.ndarray, str | None]":
    """The array as ``[N, *shape]`` in the input's dtype, or why it does not fit."""
    import numpy as np

    shape, dtype = given.shape, np.dtype(given.dtype)
    split = bool(shape) and array.shape[1:] == shape[1:] and len(array.shape) == len(shape)
    if not (split or array.shape[1:] == shape) or not array.ndim:
        wanted = f"[{', '.join(['N', *map(str, shape[1:] if shape else ())])}]"
        return array, f"`{given.name}` has the shape {list(array.shape)}, and the input takes {wanted}"
    if split and len(array) % shape[0]:
        return array, f"`{given.name}` has {len(array)} rows, not a multiple of the batch size {shape[0]}"
    if not len(array):
        return array, f"`{given.name}` has no samples"
    if array.dtype.kind not in "fiub" or not np.can_cast(array.dtype, dtype, "same_kind"):
        return array, f"`{given.name}` is {array.dtype}, and the input takes {dtype}"
    if array.dtype.kind == "f" and np.isnan(array).any():
        return array, f"`{given.name}` holds NaN"
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if (dtype.kind in "iu" and not np.array_equal(cast, array)) or (
        np.isinf(cast) & np.isfinite(array)
    ).any():
        return array, f"`{given.name}` holds values that {dtype} cannot hold"
    return np.ascontiguousarray(cast.reshape(-1, *shape)), None
