"""Samples that a method on torch runs the module on, to see the values between its layers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgepack.compression.method import Context
from edgepack.errors import InputError

if TYPE_CHECKING:
    import torch

_BATCH = 64


def calibration_batches(
    context: Context, count: int, seed: int, method: str
) -> "list[tuple[torch.Tensor, ...]]":
    """Return about ``count`` random samples as batches of the module's arguments.

    They are of the training split, in batches of 64, or else the recipe's samples without labels, one at a time.

    Raises:
        InputError: there are neither.
    """
    import numpy as np
    import torch

    from edgepack.torchnet.training import to_tensor

    order = np.random.default_rng(seed)
    if context.data is not None:
        x = context.data.x_train
        arrays = tuple(x.values()) if isinstance(x, Mapping) else (x,)
        chosen = order.permutation(len(arrays[0]))[:count]
        parts = [chosen[start : start + _BATCH] for start in range(0, len(chosen), _BATCH)]
        return [tuple(to_tensor(array[part]) for array in arrays) for part in parts]
    if context.samples is not None:
        given = [context.samples[each.name] for each in context.inputs]
        chosen = order.permutation(len(given[0]))[:count]
        return [tuple(torch.from_numpy(array[index]) for array in given) for index in chosen]
    raise InputError(
        f"{method} needs samples to see the values between layers",
        next="add `samples` or a data block to the recipe",
    )
