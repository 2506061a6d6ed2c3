"""Samples that a method on torch runs the module on, to see the values between its layers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgepack.compression.batches import BATCH, training_feeds, training_rows
from edgepack.compression.method import Context
from edgepack.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import torch


def tensors(feed: "Mapping[str, np.ndarray]") -> "tuple[torch.Tensor, ...]":
    """Return a feed as torch tensors, in its order."""
    import torch

    return tuple(torch.from_numpy(np_array) for np_array in feed.values())


def calibration_batches(
    context: Context, count: int, seed: int, method: str
) -> "list[tuple[torch.Tensor, ...]]":
    """Return about ``count`` random samples as batches of a module's arguments, as training feeds them.

    They are of the training split, in batches of ``BATCH``, or else the recipe's samples without labels, one at a time.

    Raises:
        InputError: there are neither.
    """
    from edgepack.torchnet.outputs import to_tensor

    if context.data is not None:
        x = context.data.x_train
        arrays = tuple(x.values()) if isinstance(x, Mapping) else (x,)
        rows = training_rows(len(arrays[0]), count, seed)
        parts = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        return [tuple(to_tensor(array[part]) for array in arrays) for part in parts]
    if context.samples is not None:
        return [tensors(feed) for feed in training_feeds(context, count, seed)]
    raise InputError(
        f"{method} needs samples to see the values between layers",
        next="add `samples` or a data block to the recipe",
    )
