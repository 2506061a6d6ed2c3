"""Samples for methods that look at activations, and made-up inputs of .onnx models."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgepack.compression.method import Context
from edgepack.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from edgepack.data.splits import Arrays


def chosen(context: Context, count: int, seed: int) -> list[int]:
    """Return the numbers of ``count`` random samples: of the training split, or of the recipe's samples.

    Raises:
        InputError: there are neither.
    """
    import numpy as np

    from edgepack.data.splits import count_samples

    if context.data is not None:
        total = count_samples(context.data.x_train)
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
    indices = chosen(context, count, seed)
    if context.data is None:
        samples = context.samples or {}
        return [{name: array[index] for name, array in samples.items()} for index in indices]
    return training_feeds(model.graph, context.data.x_train, indices)


def training_feeds(
    graph: "onnx.GraphProto", x: "Arrays", rows: "Sequence[int]", *, where: str | None = None
) -> "list[dict[str, np.ndarray]]":
    """Return the samples of these numbers in batches of the model's size; an incomplete batch is dropped.

    ``x`` is one array ``[N, ...]``, or a dict of such arrays by input name.

    Raises:
        InputError: the samples do not fit the model's inputs, or are fewer than a batch.
    """
    from onnx import helper

    names = [value.name for value in graph.input]
    samples = x if isinstance(x, Mapping) else {names[0]: x}
    if set(samples) != set(names):
        raise InputError(
            f"the model has the inputs {', '.join(names)}, and the data has samples for {', '.join(samples)}",
            where=where,
            next="give samples for each input: a dict of arrays by input name",
        )
    feeds: list[dict[str, np.ndarray]] = []
    for value in graph.input:
        tensor = value.type.tensor_type
        shape = [dim.dim_value for dim in tensor.shape.dim]
        array = samples[value.name]
        if list(array.shape[1:]) != shape[1:]:
            raise InputError(
                f"samples have shape {list(array.shape[1:])}, but input {value.name!r} takes {shape[1:]}",
                where=where,
                next="make the samples and model.inputs agree",
            )
        batch = shape[0]
        if len(rows) < batch:
            raise InputError(
                f"calibration needs at least one batch of {batch} samples (got {len(rows)})", where=where
            )
        whole = len(rows) // batch
        picked = array[list(rows[: whole * batch])].astype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        feeds = feeds or [{} for _ in range(whole)]
        for number, feed in enumerate(feeds):
            feed[value.name] = picked[number * batch : (number + 1) * batch]
    return feeds


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
