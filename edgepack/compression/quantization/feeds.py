"""Calibration samples as feeds of onnxruntime: of the training split, or the recipe's inputs without labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.compression.method import Context
from edgepack.data.splits import Arrays, count_samples, take
from edgepack.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import onnx

Feed = Mapping[str, "np.ndarray"]


@dataclass(frozen=True)
class Feeds:
    """Samples in batches of the model's size.

    Attributes:
        batches: by input name.
        count: of samples.
        targets: of the samples, in their order; None without labels.
    """

    batches: Sequence[Feed]
    count: int
    targets: Arrays = None


def feeds_of(
    graph: "onnx.GraphProto", context: Context, model: Path, *, samples: int, seed: int, method: str
) -> Feeds:
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
    return _training_batches(graph, context.data.x_train, context.data.y_train, samples, seed, model)


def _chosen_samples(arrays: "Mapping[str, np.ndarray]", samples: int, seed: int) -> Feeds:
    """As many of the recipe's samples as the step wants, each of them one batch."""
    import numpy as np

    count = min(len(array) for array in arrays.values())
    batch = max((array.shape[1] for array in arrays.values() if array.ndim > 1), default=1)
    chosen = np.random.default_rng(seed).permutation(count)[: -(-samples // batch)]
    feeds = [{name: array[index] for name, array in arrays.items()} for index in chosen]
    firsts = [next(iter(feed.values())) for feed in feeds]
    return Feeds(feeds, sum(len(first) if first.ndim else 1 for first in firsts))


def _training_batches(  # noqa: PLR0917 - one split
    graph: "onnx.GraphProto", data: Arrays, targets: Arrays, samples: int, seed: int, model: Path
) -> Feeds:
    import numpy as np
    from onnx import helper

    names = [value.name for value in graph.input]
    arrays = data if isinstance(data, Mapping) else dict(zip(names[:1], (data,), strict=True))
    if set(arrays) != set(names):
        raise InputError(
            f"the model has the inputs {', '.join(names)}, and the data has samples for {', '.join(arrays)}",
            where=str(model),
            next="give samples for each input: a dict of arrays by input name",
        )
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.input
    }
    for name, shape in shapes.items():
        given = list(arrays[name].shape[1:])
        if given != shape[1:]:
            raise InputError(
                f"samples have shape {given}, but input {name!r} takes {shape[1:]}",
                where=str(model),
                next="make the samples and model.inputs agree",
            )
    batch = shapes[names[0]][0]
    chosen = np.random.default_rng(seed).permutation(count_samples(arrays))[:samples]
    chosen = chosen[: max(len(chosen) // batch, 1) * batch]
    if len(chosen) < batch:
        raise InputError(
            f"calibration needs at least one batch of {batch} samples (got {len(chosen)})", where=str(model)
        )
    kinds = {
        value.name: helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type) for value in graph.input
    }
    picked = {name: arrays[name][chosen].astype(kind) for name, kind in kinds.items()}
    batches = [
        {name: array[start : start + batch] for name, array in picked.items()}
        for start in range(0, len(chosen), batch)
    ]
    return Feeds(batches, len(chosen), take(targets, chosen))
