"""Whether the recipe's data or samples fit the inputs of its model, as far as files tell without running anything."""

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from edgepack.base.text import near_miss
from edgepack.config.consistency import ONE_INPUT
from edgepack.config.problems import DataProblem, Location
from edgepack.config.recipe import Recipe
from edgepack.errors import InputError
from edgepack.spec import DType, Input, RecipeInput

if TYPE_CHECKING:
    import numpy as np

_TYPES = f"supported are {', '.join(get_args(DType))}; convert it outside the model"


@dataclass(frozen=True)
class _Input:
    """An input of the model; None for axes that neither the file nor the recipe fixes."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    axes: tuple[str, ...] = ()  # their names in the file; "?" for an axis without one


def input_problems(recipe: Recipe, base: Path) -> Iterator[DataProblem]:
    """Inputs that contradict the model, sizes that neither it nor the recipe fixes, and arrays in .npz files that the model does not take."""
    declared = None if recipe.model.onnx is None else _declared(base / recipe.model.onnx)
    contradictions = [*_odd_types(declared or [])] or [*_contradictions(recipe.model.inputs, declared or [])]
    yield from contradictions
    inputs = _inputs(recipe, declared)
    if not inputs or contradictions:
        return
    yield from _open_sizes(recipe, inputs)
    if recipe.data is None and recipe.samples is None:
        return
    if recipe.data is not None:
        one = any(getattr(recipe.data, kind) is not None for kind in ("images", "idx", "csv", "jsonl"))
        if one and len(inputs) > 1 and len(recipe.model.fed) <= 1:
            names = ", ".join(each.name for each in inputs)
            yield DataProblem(("data",), f"{ONE_INPUT} (the model has {names})", on_key=True)
        elif recipe.data.npz is not None:
            for each in inputs:
                yield from _labelled(base / recipe.data.npz, each, alone=len(inputs) == 1)
    known = [each for each in inputs if None not in each.shape and each.dtype in get_args(DType)]
    readable = (
        recipe.samples is not None
        and Path(recipe.samples).suffix == ".npz"
        and (base / recipe.samples).is_file()
    )
    if recipe.samples is not None and readable and len(known) == len(inputs):
        yield from _unlabelled(base / recipe.samples, known)


def _inputs(recipe: Recipe, declared: list[_Input] | None) -> list[_Input]:
    """The model's inputs, with the shapes that the recipe fixes; empty if they are not known."""
    fixed = {each.name: _Input(each.name, each.shape, each.dtype) for each in recipe.model.inputs}
    constant = {each.name for each in recipe.model.inputs if each.value is not None}
    if len(fixed) < len(recipe.model.inputs):
        return []  # duplicates, which are reported
    if recipe.model.onnx is None:
        return list(fixed.values())
    found = [fixed.get(each.name) or each for each in declared or []]
    return [each for each in found if each.name not in constant]


def _declared(path: Path) -> list[_Input] | None:
    """The inputs of an .onnx file; None if it does not declare the type and shape of each, or cannot be read."""
    import onnx

    from edgepack.onnxfile.reading import peek

    model = peek(path)
    if model is None:
        return None  # loading the model reports it
    constants = {tensor.name for tensor in model.graph.initializer}
    found = []
    for value in model.graph.input:
        kind = value.type.tensor_type
        if value.name in constants:
            continue
        if not kind.elem_type or not kind.HasField("shape"):
            return None
        text = kind.elem_type == onnx.TensorProto.STRING
        dtype = "text" if text else str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        shape = tuple(int(dim.dim_value) if dim.dim_value > 0 else None for dim in kind.shape.dim)
        axes = tuple(str(dim.dim_param) or "?" for dim in kind.shape.dim)
        found.append(_Input(value.name, shape, dtype, axes))
    return found


def _odd_types(declared: Sequence[_Input]) -> Iterator[DataProblem]:
    """Inputs of types that a model cannot be compiled with."""
    for each in declared:
        if each.dtype not in get_args(DType):
            yield DataProblem(
                ("model", "onnx"), f"input `{each.name}` is {each.dtype} in the model: {_TYPES}"
            )


def _contradictions(given: Sequence[RecipeInput], declared: Sequence[_Input]) -> Iterator[DataProblem]:
    """Inputs in the recipe that the .onnx file does not have, or has with other fixed sizes or another type."""
    if not declared:  # or not known
        return
    known = {each.name: each for each in declared}
    for index, each in enumerate(given):
        here: Location = ("model", "inputs", index)
        model = known.get(each.name)
        if model is None:
            message = f"the model has no input `{each.name}`{near_miss(each.name, known, say='it has:')}"
            yield DataProblem((*here, "name"), message)
            continue
        fits = len(model.shape) == len(each.shape) and all(
            size in (None, wanted) for size, wanted in zip(model.shape, each.shape, strict=True)
        )
        if not fits:
            sizes = [str(size) if size else axis for size, axis in zip(model.shape, model.axes, strict=True)]
            message = f"input `{each.name}` is [{', '.join(sizes)}] in the model, not {list(each.shape)}"
            yield DataProblem((*here, "shape"), message)
        if model.dtype != each.dtype:
            at = (*here, "dtype") if "dtype" in each.model_fields_set else here
            yield DataProblem(at, f"input `{each.name}` is {model.dtype} in the model, not {each.dtype}")


def _open_sizes(recipe: Recipe, inputs: list[_Input]) -> Iterator[DataProblem]:
    given = {each.name for each in recipe.model.inputs}
    for each in inputs:
        if None not in each.shape or each.name in given:
            continue
        named = [str(size) if size else axis for size, axis in zip(each.shape, each.axes, strict=True)]
        dtype = "" if each.dtype == "float32" else f", dtype: {each.dtype}"
        step = f"inputs: [{{name: {each.name}, shape: [{', '.join(named)}]{dtype}}}]"
        for axis, size in enumerate(each.shape):
            if size is None:
                message = f"axis {axis} of input `{each.name}` is {each.axes[axis]!r} in the model"
                yield DataProblem(("model", "onnx"), f"{message}: write its size in `{step}`")


def _labelled(path: Path, takes: _Input, *, alone: bool) -> Iterator[DataProblem]:
    """The samples of an .npz file for one input, by the headers of its arrays."""
    found: dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]] = {}
    for part in ("x_train", "x_test", "x"):
        names = [part, f"{part}.{takes.name}"] if alone else [f"{part}.{takes.name}"]
        found |= {name: header for name in names if (header := _header(path, name)) is not None}
    if not found and not alone and path.is_file():
        message = f"{path} has no array `x_train.{takes.name}`: there is one for each input, named by it"
        yield DataProblem(("data", "npz"), message, depends=(("data",), ("model",)))
    for name, header in found.items():
        shape, dtype = header
        fits = len(shape) == len(takes.shape) and all(
            want in (None, have) for want, have in zip(takes.shape[1:], shape[1:], strict=True)
        )
        if not fits or not _castable(dtype, takes.dtype):
            wanted = ", ".join("?" if size is None else str(size) for size in takes.shape[1:])
            message = (
                f"{name} in {path} holds samples of {dtype} with shape {list(shape[1:])}, "
                f"but input `{takes.name}` is {takes.dtype} with shape [{wanted}]"
            )
            yield DataProblem(("data", "npz"), message, depends=(("data",), ("model",)))


def _castable(dtype: "np.dtype[np.generic]", wanted: str) -> bool:
    import numpy as np

    try:
        return dtype.kind not in "fiub" or np.can_cast(dtype, np.dtype(wanted), "same_kind")
    except TypeError:
        return True  # a type that NumPy lacks: loading the model reports it


def _header(path: Path, name: str) -> "tuple[tuple[int, ...], np.dtype[np.generic]] | None":
    """Shape and dtype of an array in an .npz file, without its values; None if it has none of this name."""
    from numpy.lib import format as npy

    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
            version = npy.read_magic(stream)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(stream)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    return tuple(shape), dtype


def _unlabelled(path: Path, inputs: list[_Input]) -> Iterator[DataProblem]:
    from edgepack.data.inputs_file import load_inputs

    specs = [
        Input.model_validate({"name": each.name, "shape": each.shape, "dtype": each.dtype}) for each in inputs
    ]
    try:
        load_inputs(path, specs)
    except InputError as error:
        why = f": {error.why}" if error.why else ""
        yield DataProblem(("samples",), f"{path}: {error.message}{why}", depends=(("samples",), ("model",)))
