"""Checks of the files and modules that a recipe names.

No user code is run, and only the beginning of large files is read, so the checks take well under a second.
"""

import csv
import json
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec

from edgepack.base.filekind import Wanted, wrong_kind
from edgepack.base.text import did_you_mean, near_miss, nearest
from edgepack.compression.registry import METHODS
from edgepack.config.problems import DataProblem, Location
from edgepack.config.recipe import Recipe
from edgepack.config.reference import reference_problem
from edgepack.errors import InputError
from edgepack.spec import Data, Model

_LINE_BYTES = 1 << 20  # limit on a data file's first line, in bytes
P = ParamSpec("P")

_WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")


def file_problems(recipe: Recipe, base: Path) -> Iterator[DataProblem]:
    """Problems with the files and modules that a recipe names; paths are relative to ``base``."""
    yield from _model(recipe.model, base)
    if recipe.data is not None:
        yield from _data(recipe.data, base)
    if recipe.samples is not None:
        yield from _file(("samples",), recipe.samples, base, suffixes=(".npz",))
    for key in ("metric", "loss"):
        named = getattr(recipe, key)
        if named is not None and ":" in named:
            yield from _reference((key,), named, base, arguments=2)
    yield from _steps(recipe, base)


def _reading(
    check: Callable[Concatenate[Location, P], Iterator[DataProblem]],
) -> Callable[Concatenate[Location, P], Iterator[DataProblem]]:
    """Report an OSError while reading a file as a problem."""

    @wraps(check)
    def guarded(location: Location, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[DataProblem]:
        try:
            yield from check(location, *args, **kwargs)
        except OSError as error:
            yield DataProblem(location, f"cannot be read: {(error.strerror or str(error)).lower()}")

    return guarded


def _model(model: Model, base: Path) -> Iterator[DataProblem]:
    here = ("model",)
    if model.source is not None:
        yield from _reference((*here, "source"), model.source, base)
    if model.onnx is not None:
        yield from _file((*here, "onnx"), model.onnx, base, suffixes=(".onnx",), wanted="model")
    if model.weights is not None:
        yield from _file((*here, "weights"), model.weights, base, suffixes=_WEIGHTS, wanted="weights")


def _data(data: Data, base: Path) -> Iterator[DataProblem]:
    here = ("data",)
    if data.source is not None:
        yield from _reference((*here, "source"), data.source, base)
    if data.npz is not None:
        problems = list(_file((*here, "npz"), data.npz, base, suffixes=(".npz",)))
        yield from problems or _arrays((*here, "npz"), base / data.npz)
    if data.images is not None:
        yield from _image_folder((*here, "images", "folder"), base / data.images.folder)
    if data.idx is not None:
        from edgepack.data.idx import check_idx, path_of

        for name in ("train_images", "train_labels", "test_images", "test_labels"):
            path = path_of(data.idx, base, getattr(data.idx, name))
            given = name if name in data.idx.model_fields_set else "folder"
            try:
                check_idx(path)
            except InputError as error:
                why = "".join(f"; {more}" for more in (error.why, error.next) if more)
                yield DataProblem((*here, "idx", given), f"{path}: {error.message}{why}")
    for kind in ("csv", "jsonl"):
        text = getattr(data, kind)
        if text is None:
            continue
        problems = list(_file((*here, kind, "file"), text.file, base))
        yield from problems or _columns((*here, kind), kind, base / text.file, (text.text, text.label))
        if ":" in text.tokenizer:
            yield from _reference((*here, kind, "tokenizer"), text.tokenizer, base, arguments=1)


def _steps(recipe: Recipe, base: Path) -> Iterator[DataProblem]:
    """The files and user code that compression steps name."""
    for number, step in enumerate(recipe.compress):
        for file in METHODS[step.method].files(step):
            here: Location = ("compress", number, *file.option)
            if file.kind == "callable":
                yield from _reference(here, file.value, base, arguments=file.arguments)
                continue
            wanted: Wanted | None = "weights" if set(file.suffixes) & set(_WEIGHTS) else None
            yield from _file(here, file.value, base, suffixes=file.suffixes, wanted=wanted)


@_reading
def _reference(
    location: Location, reference: str, base: Path, *, arguments: int = 0
) -> Iterator[DataProblem]:
    problem = reference_problem(reference, base, arguments=arguments)
    if problem is not None:
        yield DataProblem(location, problem)


@_reading
def _file(
    location: Location,
    name: str,
    base: Path,
    *,
    suffixes: tuple[str, ...] = (),
    wanted: Wanted | None = None,
) -> Iterator[DataProblem]:
    path = base / name
    if suffixes and path.suffix not in suffixes:
        also = f"; {_other_kind(path, wanted)}" if wanted and path.exists() else ""
        message = f"expected a file that ends in {' or '.join(suffixes)}, got {name}"
        yield DataProblem(location, message + also.rstrip("; "))
    elif not path.exists():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = nearest(path.name, beside)
        yield DataProblem(location, f"no such file: {path}{did_you_mean(near)}")
    elif not path.is_file():
        yield DataProblem(location, f"not a file: {path}")
    elif path.stat().st_size == 0:
        yield DataProblem(location, f"the file is empty (0 bytes): {path}")
    elif wanted is not None and (why := _other_kind(path, wanted)):
        yield DataProblem(location, f"{path}: {why}")


def _other_kind(path: Path, wanted: Wanted) -> str:
    """What a file is instead, and the next step; empty if it may be of the kind wanted."""
    why, step = wrong_kind(path, wanted) or ("", None)
    return f"{why}; {step}" if step else why


@_reading
def _arrays(location: Location, path: Path) -> Iterator[DataProblem]:
    """An .npz file is a zip of .npy files, one per array."""
    from zipfile import BadZipFile, ZipFile

    try:
        with ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
    except BadZipFile:
        why = _other_kind(path, "arrays")
        yield DataProblem(location, f"not an .npz file, or truncated: {path}{f': {why}' if why else ''}")
        return
    names = list(dict.fromkeys(name.partition(".")[0] for name in names))  # x.NAME: one of several inputs
    if "x" in names:
        return  # without a split of its own
    labelled = {"y_train", "y_test"} & set(names)
    for array in ("x_train", "x_test", *(("y_train", "y_test") if labelled else ())):
        if array not in names:
            yield DataProblem(location, f"{path} has no array `{array}`; it has: {', '.join(sorted(names))}")


@_reading
def _image_folder(location: Location, folder: Path) -> Iterator[DataProblem]:
    if not folder.is_dir():
        yield DataProblem(location, f"no such folder: {folder}")
        return
    classes = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    if len(classes) < 2:  # noqa: PLR2004 - one class leaves nothing to tell apart
        yield DataProblem(
            location, f"expected one sub-folder of images for each of two classes or more in {folder}"
        )
    for empty in sorted(c.name for c in classes if not any(c.iterdir())):
        yield DataProblem(location, f"the class folder `{empty}` in {folder} is empty")


@_reading
def _columns(location: Location, kind: str, path: Path, wanted: tuple[str, str]) -> Iterator[DataProblem]:
    """The two columns must be in the first line: a CSV header, or the first JSONL object."""
    with path.open("rb") as stream:
        raw = stream.readline(_LINE_BYTES)
    try:
        line = raw.decode("utf-8-sig")
        columns = list(json.loads(line)) if kind == "jsonl" else next(csv.reader([line]))
    except (ValueError, TypeError, csv.Error, StopIteration):
        form = "a JSON object" if kind == "jsonl" else "a CSV header in UTF-8"
        yield DataProblem((*location, "file"), f"the first line of {path} is not {form}")
        return
    for key, column in zip(("text", "label"), wanted, strict=True):
        if column not in columns:
            yield DataProblem(
                (*location, key),
                f"{path} has no column `{column}`{near_miss(column, columns, say='it has:')}",
            )
