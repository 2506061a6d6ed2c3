"""Samples that a method runs a model on: of the training split, the recipe's own, or made-up ones."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgepack.compression.method import Context

if TYPE_CHECKING:
    import numpy as np

    Feed = dict[str, np.ndarray]

BATCH = 64
"""Samples at a time for a torch module, which takes batches of any size, as training does."""

MADE_UP = 4
"""Runs on made-up samples."""


def training_rows(total: int, count: int, seed: int) -> "np.ndarray":
    """Return the numbers of ``count`` of the ``total`` samples, in the order in which they are drawn."""
    import numpy as np

    return np.random.default_rng(seed).permutation(total)[:count]


def training_feeds(context: Context, count: int, seed: int = 0, *, batch: int | None = None) -> "list[Feed]":
    """Return inputs by name, each with the batch axis: about ``count`` samples in batches.

    They are drawn from the training split, in batches of ``batch`` or else of the model's size, and an incomplete batch
    is dropped unless it is the only one; or from the recipe's samples, one batch each. If there are neither, they are made
    up: normal, with zeros for integers; of an .onnx file, :func:`edgepack.compression.feeding.feeds_of_file` makes better ones.
    """
    import numpy as np

    inputs = context.inputs
    kinds = {given.name: np.dtype(given.dtype) for given in inputs}
    if context.samples is not None:
        total = min(len(array) for array in context.samples.values())
        rows = training_rows(total, count, seed)
        return [{name: context.samples[name][row].astype(kinds[name]) for name in kinds} for row in rows]
    if context.data is not None:
        x = context.data.x_train
        named = x if isinstance(x, Mapping) else {inputs[0].name: x}
        rows = training_rows(len(next(iter(named.values()))), count, seed)
        size = batch or (inputs[0].shape[0] if inputs[0].shape else 1)
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        whole = [part for part in parts if len(part) == size] or parts
        return [{name: named[name][part].astype(kinds[name]) for name in kinds} for part in whole]
    rng = np.random.default_rng(seed)
    return [
        {
            given.name: np.asarray(
                rng.standard_normal(given.shape) if kinds[given.name].kind == "f" else np.zeros(given.shape),
                kinds[given.name],
            )
            for given in inputs
        }
        for _ in range(MADE_UP)
    ]
