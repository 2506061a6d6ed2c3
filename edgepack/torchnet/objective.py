"""What a training minimises, and what may happen between its steps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.spec import Train

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Batch:
    """One batch as a loss sees it.

    Attributes:
        outputs: what the module in training makes of the samples, ``[N, ...]``.
        labels: int64 ``[N]``.
        teachers: what each of the objective's teachers makes of the same samples, ``[N, ...]``, in their order.
    """

    outputs: "torch.Tensor"
    labels: "torch.Tensor"
    teachers: "tuple[torch.Tensor, ...]" = ()


Loss = Callable[[Batch], "torch.Tensor"]
"""A batch to a scalar."""

Hook = Callable[["torch.nn.Module", float], None]
"""Called with the module and the share of all steps that are done (0..1): for schedules and projections."""


def cross_entropy(batch: Batch) -> "torch.Tensor":
    """The cross-entropy of class scores ``[N, classes]`` and labels, averaged over the batch."""
    from torch.nn import functional

    return functional.cross_entropy(batch.outputs, batch.labels)


OptimizerOf = Callable[["torch.nn.Module", Train], "torch.optim.Optimizer"]
"""Makes the optimizer of a module's training, one whose ``step()`` needs no closure.

The learning rate of each parameter group falls to 0 along a cosine, from what it is at first. Parameters in no group
keep their values; groups may hold parameters that are not the module's, such as a projection between features.
"""


def adam(module: "torch.nn.Module", spec: Train) -> "torch.optim.Optimizer":
    """Adam (Kingma and Ba 2015, arXiv:1412.6980) over all parameters of the module."""
    import torch

    return torch.optim.Adam(module.parameters(), lr=spec.lr, weight_decay=spec.weight_decay)


@dataclass(frozen=True)
class Objective:
    """A training's objective.

    Attributes:
        loss: of each batch.
        classifies: the loss takes labels for classes: every label needs an output.
        teachers: modules in eval mode that the loss compares with; they are run without gradients.
        regulariser: a penalty on the module, added to the loss of every batch.
        before_step: called before each batch, e.g. to raise a pruning ratio along a schedule.
        after_step: called after each update of the weights, e.g. to set pruned ones to zero again.
        optimizer: what updates the weights: the choice of algorithm, parameters and groups of them.
    """

    loss: Loss = cross_entropy
    classifies: bool = True
    teachers: "tuple[torch.nn.Module, ...]" = ()
    regulariser: "Callable[[torch.nn.Module], torch.Tensor] | None" = None
    before_step: Hook | None = None
    after_step: Hook | None = None
    optimizer: OptimizerOf = adam
