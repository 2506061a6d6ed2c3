"""Calibration samples as feeds of onnxruntime: of the training split, or the recipe's inputs without labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.compression.batches import training_rows
from edgepack.compression.feeding import chosen as random_rows
from edgepack.compression.feeding import training_feeds
from edgepack.compression.method import Context
from edgepack.data.splits import Arrays, take
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
    rows = random_rows(context, samples, seed)
    batches = training_feeds(graph, context.data.x_train, rows, where=str(model))
    count = len(batches) * len(next(iter(batches[0].values())))
    return Feeds(batches, count, take(context.data.y_train, rows[:count]))


def _chosen_samples(arrays: "Mapping[str, np.ndarray]", samples: int, seed: int) -> Feeds:
    """As many of the recipe's samples as the step wants, each of them one batch."""
    count = min(len(array) for array in arrays.values())
    batch = max((array.shape[1] for array in arrays.values() if array.ndim > 1), default=1)
    chosen = training_rows(count, -(-samples // batch), seed)
    feeds = [{name: array[index] for name, array in arrays.items()} for index in chosen]
    firsts = [next(iter(feed.values())) for feed in feeds]
    return Feeds(feeds, sum(len(first) if first.ndim else 1 for first in firsts))
