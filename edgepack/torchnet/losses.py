"""Losses by the recipe: built in, or the user's own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.data.splits import IGNORED
from edgepack.data.user_code import call_user_code, importable, resolve
from edgepack.errors import InputError
from edgepack.scoring.classes import class_axis
from edgepack.torchnet.objective import Batch, Loss

if TYPE_CHECKING:
    import torch


def fitting(batch: Batch) -> "torch.Tensor":
    """Cross-entropy for integer targets, the mean squared error for others; summed over the targets."""
    return _sum(batch, lambda target: "mse" if target.is_floating_point() else "cross-entropy")


def loss_of(name: str | None, base: Path) -> Loss:
    """The loss that a recipe names: a built-in one, ``module:callable``, or the one that fits the targets if None.

    The callable gets the module's output, or the tuple of all outputs, and the targets as tensors: one, or a dict as in the
    data. It returns a scalar.

    Raises:
        InputError: the module cannot be imported, or has no such callable.
    """
    if name is None:
        return fitting
    if name in _BUILT_IN:
        return lambda batch: _sum(batch, lambda _: name)
    with importable(base):
        function = resolve(name, base)

    def loss(batch: Batch) -> "torch.Tensor":
        import torch

        with importable(base):
            found = call_user_code(function, name, base, batch.outputs, batch.labels)
        if not isinstance(found, torch.Tensor) or found.numel() != 1:
            raise InputError(
                f"{name} returned {str(found)[:60]}", where="loss", next="return a scalar tensor"
            )
        return found.reshape(())

    return loss


def _sum(batch: Batch, kind: "Callable[[torch.Tensor], str]") -> "torch.Tensor":
    """The sum of the losses of each target and the output of the same number."""
    outputs = batch.outputs if isinstance(batch.outputs, tuple) else (batch.outputs,)
    labels = tuple(batch.labels.values()) if isinstance(batch.labels, Mapping) else (batch.labels,)
    if any(each is None for each in labels):
        raise InputError("the loss needs targets", where="data", next="give y_train, or a loss of your own")
    if len(outputs) < len(labels):
        raise InputError(
            f"the model has {len(outputs)} outputs for {len(labels)} targets",
            next="set loss: module:callable to one that takes them",
        )
    found = [_BUILT_IN[kind(y)](x, y) for x, y in zip(outputs, labels, strict=False)]
    total = found[0]
    for each in found[1:]:
        total = total + each
    return total


def _cross_entropy(output: "torch.Tensor", target: "torch.Tensor") -> "torch.Tensor":
    """Cross-entropy over the class axis; one score a target is the logit of class 1. Targets of -100 do not count."""
    from torch.nn import functional

    axis = class_axis(tuple(output.shape), tuple(target.shape))
    scores = output if axis in {None, 1} else output.movedim(axis, 1)
    if axis is None or scores.shape[1] == 1:
        kept = (target != IGNORED).reshape(-1)
        logits, wanted = scores.reshape(-1)[kept], target.reshape(-1)[kept]
        return functional.binary_cross_entropy_with_logits(logits, wanted.to(logits.dtype))
    classes = target if target.dim() == scores.dim() - 1 else target[:, 0]
    return functional.cross_entropy(scores, classes, ignore_index=IGNORED)


def _squared(output: "torch.Tensor", target: "torch.Tensor") -> "torch.Tensor":
    from torch.nn import functional

    return functional.mse_loss(output, _as(target, output))


def _absolute(output: "torch.Tensor", target: "torch.Tensor") -> "torch.Tensor":
    from torch.nn import functional

    return functional.l1_loss(output, _as(target, output))


def _as(target: "torch.Tensor", output: "torch.Tensor") -> "torch.Tensor":
    """The target in the output's shape, from which it may differ by axes of size 1."""
    shapes = [[size for size in tensor.shape[1:] if size != 1] for tensor in (output, target)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"an output of a sample is {list(output.shape[1:])}, its target {list(target.shape[1:])}",
            next="give targets of the output's shape; class numbers have to be integers",
        )
    return target.reshape(output.shape).to(output.dtype)


_BUILT_IN: dict[str, Callable[[Any, Any], Any]] = {
    "cross-entropy": _cross_entropy,
    "mse": _squared,
    "mae": _absolute,
}
