"""Calibration samples as feeds of onnxruntime: of the training split, or the recipe's inputs without labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.compression.feeding import chosen as random_rows
from edgepack.compression.feeding import training_feeds
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
    rows = random_rows(context, samples, seed)
    return list(training_feeds(graph, context.data.x_train, rows, where=str(model)))


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
