"""Load the recipe's ``data`` block as :class:`Splits`."""

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.filekind import wrong_kind
from edgepack.data.idx import load_idx
from edgepack.data.images import load_images
from edgepack.data.splits import Arrays, Splits, arrays_of, check_splits, random_split, stratified_split, take
from edgepack.data.text import load_text
from edgepack.data.user_code import call
from edgepack.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from edgepack.spec import Data


def load_data(spec: "Data", base: Path) -> Splits:
    """Load and check the samples that ``spec`` names; paths are relative to ``base``, the recipe's folder.

    Sources without a split of their own are split per class by ``test_fraction`` and ``seed``.

    Raises:
        InputError: for anything missing, unreadable or inconsistent, with the file and line.
    """
    if spec.source is not None:
        splits = call(spec.source, base)
        if not isinstance(splits, Splits):
            raise InputError(
                f"{spec.source} returned a {type(splits).__name__}",
                where=spec.source,
                next="return edgepack.data.Splits(x_train, y_train, x_test, y_test)",
            )
        return check_splits(splits, spec.source)
    if spec.npz is not None:
        return check_splits(_load_npz(base / spec.npz, spec.test_fraction, spec.seed), str(base / spec.npz))
    if spec.images is not None:
        folder = base / spec.images.folder
        x, y, classes = load_images(folder, spec.images.preprocess)
        train, test = stratified_split(y, spec.test_fraction, spec.seed)
        return check_splits(Splits(x[train], y[train], x[test], y[test], classes=classes), str(folder))
    if spec.idx is not None:
        return check_splits(load_idx(spec.idx, base), str(base / spec.idx.folder))
    for kind, text in (("csv", spec.csv), ("jsonl", spec.jsonl)):
        if text is not None:
            return check_splits(
                load_text(text, kind, base, spec.test_fraction, spec.seed), str(base / text.file)
            )
    raise InputError(
        "the data block names no source", next="give one of source, npz, images, idx, csv, jsonl"
    )


def _load_npz(path: Path, test_fraction: float, seed: int) -> Splits:
    import numpy as np

    where = str(path)
    if not path.is_file():
        raise InputError("there is no such data file", where=where)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays: dict[str, np.ndarray] = {name: archive[name] for name in archive.files}
    except (
        ValueError,
        OSError,
        EOFError,
        zipfile.BadZipFile,
        AttributeError,
        TypeError,
        MemoryError,
    ) as error:
        why, step = wrong_kind(path, "arrays") or (str(error), None)
        raise InputError(
            "the file is not an .npz of plain arrays",
            where=where,
            why=why,
            next=step or "write it with numpy.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)",
        ) from error
    parts = {part: _part(arrays, part) for part in ("x_train", "y_train", "x_test", "y_test", "x", "y")}
    if parts["x_train"] is not None and parts["x_test"] is not None:
        return Splits(parts["x_train"], parts["y_train"], parts["x_test"], parts["y_test"])
    x, y = parts["x"], parts["y"]
    if x is None:
        raise InputError(
            f"its arrays are {', '.join(arrays) or 'none'}",
            where=where,
            next="store x_train, y_train, x_test, y_test",
        )
    counts = {len(array) for array in (*arrays_of(x), *arrays_of(y)) if array.ndim}
    if len(counts) != 1:
        shown = ", ".join(f"{name}: {list(array.shape)}" for name, array in arrays.items())
        raise InputError(f"x and y have different numbers of samples ({shown})", where=where)
    classes = [array for array in arrays_of(y) if array.ndim == 1 and array.dtype.kind in "iu"]
    if classes:
        train, test = stratified_split(classes[0], test_fraction, seed)
    else:
        train, test = random_split(counts.pop(), test_fraction, seed)
    return Splits(take(x, train), take(y, train), take(x, test), take(y, test))


def _part(arrays: "dict[str, np.ndarray]", part: str) -> Arrays:
    """The array of this name, or those named ``part.NAME`` by NAME; None if there are none."""
    if part in arrays:
        return arrays[part]
    return {
        name[len(part) + 1 :]: array for name, array in arrays.items() if name.startswith(f"{part}.")
    } or None
