"""Samples for .onnx models, checked against their inputs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.compression.batches import MADE_UP, training_rows
from edgepack.compression.batches import training_feeds as drawn_feeds
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
    return [int(row) for row in training_rows(total, count, seed)]


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


def feeds_of_file(model: Path, context: Context, count: int) -> "list[dict[str, np.ndarray]]":
    """Return samples for an .onnx file in batches of its size: the recipe's, or some that its graph expects.

    Raises:
        InputError: the model accepts no made-up input.
    """
    from edgepack.onnxfile import load_onnx
    from edgepack.onnxfile.importing import model_inputs
    from edgepack.onnxfile.sampling import made_up

    if context.data is not None or context.samples is not None:
        return drawn_feeds(context, count)
    return [sample.inputs for sample in made_up(model, model_inputs(load_onnx(model)), MADE_UP)]
