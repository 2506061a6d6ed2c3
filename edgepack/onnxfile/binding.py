"""Inputs with a value in the recipe: they become constants of the model."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.temporary import temporary_folder
from edgepack.base.text import near_miss
from edgepack.errors import InputError, naming
from edgepack.onnxfile.canonical import save_onnx
from edgepack.onnxfile.checking import refusing
from edgepack.onnxfile.external import read_external_data
from edgepack.onnxfile.protos import IR_VERSION
from edgepack.spec import Input, RecipeInput

if TYPE_CHECKING:
    import onnx


@contextmanager
def bound(path: Path, inputs: Sequence[Input]) -> Iterator[tuple[Path, tuple[Input, ...]]]:
    """In the block, the model at ``path`` as a file in which inputs that have a value are constants.

    Yields that file, which is ``path`` itself if there are none, and the other inputs. Errors in the block that
    name the file name ``path``.

    Raises:
        InputError: the model has no such input, or it has another element type.
    """
    given = [each for each in inputs if isinstance(each, RecipeInput) and each.value is not None]
    left = tuple(
        Input(name=each.name, shape=each.shape, dtype=each.dtype) for each in inputs if each not in given
    )
    if not given:
        yield path, left
        return
    import onnx

    with temporary_folder(prefix="edgepack-bound-") as folder, naming(folder, path, path):
        file = folder / path.name
        with refusing("the file is not an ONNX model", str(path)):
            model = onnx.load_model(path, load_external_data=False)
            read_external_data(model, path)
        for each in given:
            _bind(model, each, str(path))
        save_onnx(model, file)
        yield file, left


def _bind(model: "onnx.ModelProto", given: RecipeInput, where: str) -> None:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    values = {value.name: value for value in graph.input if value.name not in constants}
    if given.name not in values:
        hint = near_miss(given.name, values, say="it has", quote="'")
        raise InputError(
            f"the model has no input {given.name!r}{hint}",
            where=where,
            next="correct its name in model.inputs of the recipe",
        )
    kind = values[given.name].type.tensor_type.elem_type
    if kind != helper.np_dtype_to_tensor_dtype(np.dtype(given.dtype)):
        has = TensorProto.DataType.Name(kind).lower()
        raise InputError(
            f"input {given.name!r} is {has} in the model and {given.dtype} in the recipe",
            where=where,
            next="correct its dtype in model.inputs of the recipe",
        )
    array = np.asarray(given.value, given.dtype)
    full = np.broadcast_to(array, given.shape) if array.ndim == 0 else array.reshape(given.shape)
    graph.initializer.append(numpy_helper.from_array(np.asarray(full, order="C"), given.name))
    graph.input.remove(values[given.name])
    model.ir_version = max(model.ir_version, IR_VERSION)
