"""Samples for methods that look at activations, and made-up inputs of .onnx models."""

from typing import TYPE_CHECKING

from edgepack.compression.method import Context
from edgepack.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import onnx


def chosen(context: Context, count: int, seed: int) -> list[int]:
    """Return the numbers of ``count`` random samples: of the training split, or of the recipe's samples.

    Raises:
        InputError: there are neither.
    """
    import numpy as np

    if context.data is not None:
        total = len(context.data.x_train)
    elif context.samples is not None:
        total = min(len(array) for array in context.samples.values())
    else:
        raise InputError(
            "measuring activations needs samples",
            next="add `samples` or a data block to the recipe, or use criterion l1",
        )
    return [int(index) for index in np.random.default_rng(seed).permutation(total)[:count]]


def onnx_feeds(
    model: "onnx.ModelProto", context: Context, count: int, seed: int
) -> "list[dict[str, np.ndarray]]":
    """Return random samples for an .onnx model, each of its batch size; the last incomplete batch is dropped.

    Raises:
        InputError: there are no samples, or they do not fit the model.
    """
    from onnx import helper

    indices = chosen(context, count, seed)
    if context.data is None:
        samples = context.samples or {}
        return [{name: array[index] for name, array in samples.items()} for index in indices]
    value = model.graph.input[0]
    tensor = value.type.tensor_type
    shape = [dim.dim_value for dim in tensor.shape.dim]
    x = context.data.x_train
    if len(model.graph.input) != 1 or list(x.shape[1:]) != shape[1:] or len(indices) < shape[0]:
        raise InputError(
            f"the samples do not fit the model: {list(x.shape)} for {value.name!r} of {shape}",
            next="make the samples and model.inputs agree, or give inputs without labels: samples: inputs.npz",
        )
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    batch = shape[0]
    whole = len(indices) // batch * batch
    return [{value.name: x[indices[i : i + batch]].astype(dtype)} for i in range(0, whole, batch)]


def random_feed(model: "onnx.ModelProto", seed: int = 0) -> "dict[str, np.ndarray]":
    """Return one value per input: standard normal for floats, zeros for integers and booleans."""
    import numpy as np
    from onnx import helper

    generator = np.random.default_rng(seed)
    feed = {}
    for value in model.graph.input:
        tensor = value.type.tensor_type
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        shape = [dim.dim_value for dim in tensor.shape.dim]
        floats = np.issubdtype(dtype, np.floating)
        feed[value.name] = (generator.standard_normal(shape) if floats else np.zeros(shape)).astype(dtype)
    return feed
