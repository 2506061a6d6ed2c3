"""Calibration samples as feeds of onnxruntime: of the training split, or the recipe's inputs without labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.compression.method import Context
from edgepack.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import onnx

Feed = Mapping[str, "np.ndarray"]


def feeds_of(
    graph: "onnx.GraphProto", context: Context, model: Path, *, samples: int, seed: int, method: str
) -> list[Feed]:
    """Return ``samples`` random samples in batches of the model's size; an incomplete batch is dropped.

    Raises:
        InputError: there are none, or they do not fit the model's inputs.
    """
    if context.samples is not None:
        return _chosen_samples(context.samples, samples, seed)
    if context.data is None:
        raise InputError(
            "calibration needs samples",
            next=f"add `samples` or a data block to the recipe, or remove {method}",
        )
    return _training_batches(graph, context.data.x_train, samples, seed, model)


def count_samples(feeds: list[Feed]) -> int:
    """Return the number of samples in all batches."""
    firsts = (next(iter(feed.values())) for feed in feeds)
    return sum(len(first) if first.ndim else 1 for first in firsts)


def _chosen_samples(arrays: "Mapping[str, np.ndarray]", samples: int, seed: int) -> list[Feed]:
    """As many of the recipe's samples as the step wants, each of them one batch."""
    import numpy as np

    count = min(len(array) for array in arrays.values())
    batch = max((array.shape[1] for array in arrays.values() if array.ndim > 1), default=1)
    chosen = np.random.default_rng(seed).permutation(count)[: -(-samples // batch)]
    return [{name: array[index] for name, array in arrays.items()} for index in chosen]


def _training_batches(
    graph: "onnx.GraphProto", x: "np.ndarray", samples: int, seed: int, model: Path
) -> list[Feed]:
    import numpy as np
    from onnx import helper

    if len(graph.input) != 1:
        names = ", ".join(value.name for value in graph.input)
        raise InputError(
            f"the model has {len(graph.input)} inputs ({names}); a data set feeds only one",
            where=str(model),
            next="give inputs without labels instead of data: samples: inputs.npz",
        )
    tensor = graph.input[0].type.tensor_type
    shape = [dim.dim_value for dim in tensor.shape.dim]
    if list(x.shape[1:]) != shape[1:]:
        raise InputError(
            f"samples have shape {list(x.shape[1:])}, but input {graph.input[0].name!r} takes {shape[1:]}",
            where=str(model),
            next="make the samples and model.inputs agree",
        )
    batch = shape[0]
    chosen = np.random.default_rng(seed).permutation(len(x))[:samples]
    chosen = chosen[: max(len(chosen) // batch, 1) * batch]
    if len(chosen) < batch:
        raise InputError(
            f"calibration needs at least one batch of {batch} samples (got {len(chosen)})", where=str(model)
        )
    picked = x[chosen].astype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    return [{graph.input[0].name: picked[i : i + batch]} for i in range(0, len(picked), batch)]
