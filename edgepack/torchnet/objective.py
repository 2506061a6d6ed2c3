"""What a training minimises, and what may happen between its steps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Batch:
    """One batch as a loss sees it.

    Attributes:
        outputs: what the module in training makes of the samples, ``[N, ...]``.
        labels: int64 ``[N]``.
        teacher: what the objective's teacher makes of the same samples, ``[N, ...]``; None without a teacher.
    """

    outputs: "torch.Tensor"
    labels: "torch.Tensor"
    teacher: "torch.Tensor | None" = None


Loss = Callable[[Batch], "torch.Tensor"]
"""A batch to a scalar."""

Hook = Callable[["torch.nn.Module", float], None]
"""Called with the module and the share of all steps that are done (0..1): for schedules and projections."""


def cross_entropy(batch: Batch) -> "torch.Tensor":
    """The cross-entropy of class scores ``[N, classes]`` and labels, averaged over the batch."""
    from torch.nn import functional

    return functional.cross_entropy(batch.outputs, batch.labels)


@dataclass(frozen=True)
class Objective:
    """A training's objective.

    Attributes:
        loss: of each batch.
        classifies: the loss takes labels for classes: every label needs an output.
        teacher: a module in eval mode that the loss compares with; it is run without gradients.
        regulariser: a penalty on the module, added to the loss of every batch.
        before_step: called before each batch, e.g. to raise a pruning ratio along a schedule.
        after_step: called after each update of the weights, e.g. to set pruned ones to zero again.
    """

    loss: Loss = cross_entropy
    classifies: bool = True
    teacher: "torch.nn.Module | None" = None
    regulariser: "Callable[[torch.nn.Module], torch.Tensor] | None" = None
    before_step: Hook | None = None
    after_step: Hook | None = None
