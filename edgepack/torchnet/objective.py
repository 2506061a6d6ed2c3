"""Training objectives, and hooks between training steps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.spec import Train

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Batch:
    """One batch, as passed to a loss.

    Attributes:
        outputs: outputs of the trained module, ``[N, ...]``.
        labels: int64 ``[N]``.
        teachers: outputs of each of the objective's teachers for the same samples, ``[N, ...]``, in order.
    """

    outputs: "torch.Tensor"
    labels: "torch.Tensor"
    teachers: "tuple[torch.Tensor, ...]" = ()


Loss = Callable[[Batch], "torch.Tensor"]
"""Maps a batch to a scalar."""

Hook = Callable[["torch.nn.Module", float], None]
"""Called with the module and the completed share of all steps (0..1): for schedules and projections."""


def cross_entropy(batch: Batch) -> "torch.Tensor":
    """Cross-entropy of class scores ``[N, classes]`` and labels, averaged over the batch."""
    from torch.nn import functional

    return functional.cross_entropy(batch.outputs, batch.labels)


OptimizerOf = Callable[["torch.nn.Module", Train], "torch.optim.Optimizer"]
"""Creates the optimizer for a module's training; its ``step()`` must not need a closure.

The learning rate of each parameter group decays from its initial value to 0 along a cosine. Parameters in no group
are not updated; groups may contain parameters outside the module, such as a projection between features.
"""


def adam(module: "torch.nn.Module", spec: Train) -> "torch.optim.Optimizer":
    """Adam (Kingma and Ba 2015, arXiv:1412.6980) over all parameters of the module."""
    import torch

    return torch.optim.Adam(module.parameters(), lr=spec.lr, weight_decay=spec.weight_decay)


@dataclass(frozen=True)
class Objective:
    """A training objective.

    Attributes:
        loss: the loss of each batch.
        classifies: whether the loss interprets labels as classes: every label needs an output.
        teachers: modules in eval mode whose outputs the loss uses; they are run without gradients.
        regulariser: a penalty on the module, added to the loss of every batch.
        before_step: called before each batch, e.g. to increase a pruning ratio along a schedule.
        after_step: called after each weight update, e.g. to reset pruned weights to zero.
        optimizer: creates the optimizer: algorithm, parameters and parameter groups.
    """

    loss: Loss = cross_entropy
    classifies: bool = True
    teachers: "tuple[torch.nn.Module, ...]" = ()
    regulariser: "Callable[[torch.nn.Module], torch.Tensor] | None" = None
    before_step: Hook | None = None
    after_step: Hook | None = None
    optimizer: OptimizerOf = adam
