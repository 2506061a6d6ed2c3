"""Adversarial samples by the fast gradient sign method (Goodfellow et al. 2015, arXiv:1412.6572)."""

from typing import TYPE_CHECKING

from edgepack.data.splits import Arrays, arrays_of, count_samples, take
from edgepack.errors import InputError
from edgepack.torchnet.objective import Batch, Loss
from edgepack.torchnet.outputs import inputs_of, outputs_of, targets_of

if TYPE_CHECKING:
    import numpy as np
    import torch

_BATCH = 64


def fgsm(
    module: "torch.nn.Module", x: Arrays, targets: Arrays, loss: Loss, step: float
) -> "tuple[np.ndarray, ...]":
    """Return the inputs moved by ``step`` along the sign of the loss's gradient, within the range of their values.

    Integers and booleans stay as they are. The module is in eval mode.

    Raises:
        InputError: no input holds floating-point numbers.
    """
    import torch

    arrays = arrays_of(x)
    if not any(array.dtype.kind == "f" for array in arrays):
        raise InputError(
            "FGSM changes inputs of floating-point numbers; the model has none",
            where="robustness, fgsm",
            next="remove fgsm",
        )
    parts: list[tuple[torch.Tensor, ...]] = []
    module.eval()
    for start in range(0, count_samples(x), _BATCH):
        rows = slice(start, start + _BATCH)
        given = [each.requires_grad_(each.is_floating_point()) for each in inputs_of(take(x, rows))]
        moved = [each for each in given if each.requires_grad]
        found = loss(Batch(outputs_of(module(*given)), targets_of(take(targets, rows))))
        slopes = iter(torch.autograd.grad(found, moved))
        parts.append(
            tuple(
                each.detach() + step * next(slopes).sign() if each.requires_grad else each for each in given
            )
        )
    joined = [torch.cat(each).numpy() for each in zip(*parts, strict=True)]
    return tuple(
        new.clip(old.min(), old.max()).astype(old.dtype) if old.dtype.kind == "f" else old
        for new, old in zip(joined, arrays, strict=True)
    )
