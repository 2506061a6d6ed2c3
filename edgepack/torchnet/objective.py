"""Training objectives, and hooks between training steps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edgepack.spec import Train

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Batch:
    """One batch, as passed to a loss.

    Attributes:
        outputs: the output of the trained module, ``[N, ...]``, or the tuple of all if it has several.
        labels: targets: int64 or float32 ``[N, ...]``, or a dict of them by name, as in the data; None without targets.
        teachers: outputs of each of the objective's teachers for the same samples, as ``outputs``, in order.
    """

    outputs: Any
    labels: "torch.Tensor | Mapping[str, torch.Tensor] | None"
    teachers: tuple[Any, ...] = ()


Loss = Callable[[Batch], "torch.Tensor"]
"""Maps a batch to a scalar."""

Hook = Callable[["torch.nn.Module", float], None]
"""Called with the module and the completed share of all steps (0..1): for schedules and projections."""


OptimizerOf = Callable[["torch.nn.Module", Train], "torch.optim.Optimizer"]
"""Creates the optimizer for a module's training; its ``step()`` must not need a closure.

The learning rate of each parameter group decays from its initial value to 0 along a cosine. Parameters in no group
are not updated; groups may contain parameters outside the module, such as a projection between features.
"""


class Stateful(Protocol):
    """What hooks keep from one step to the next, as torch's optimizers do: in dicts and lists of tensors and numbers."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Set the state to one that was returned before."""


def adam(module: "torch.nn.Module", spec: Train) -> "torch.optim.Optimizer":
    """Adam (Kingma and Ba 2015, arXiv:1412.6980) over all parameters of the module."""
    import torch

    return torch.optim.Adam(module.parameters(), lr=spec.lr, weight_decay=spec.weight_decay)


@dataclass(frozen=True)
class Objective:
    """A training objective.

    Attributes:
        loss: the loss of each batch; None is the recipe's, or the one that fits the targets: cross-entropy or squared error.
        classifies: whether the module is to match the data's targets: they are checked against its outputs first, and
            the metric is returned.
        teachers: modules in eval mode whose outputs the loss uses; they are run without gradients.
        constant_teachers: whether a teacher's outputs depend on the sample alone, and the loss looks at nothing else of it, so
            that it needs to run only once per sample.
        regulariser: a penalty on the module, added to the loss of every batch.
        before_step: called before each batch, e.g. to increase a pruning ratio along a schedule.
        after_step: called after each weight update, e.g. to reset pruned weights to zero.
        optimizer: creates the optimizer: algorithm, parameters and parameter groups.
        state: what hooks, loss and optimizer keep between steps beside what is trained and what torch's own optimizers
            keep; empty if nothing, None if that is not known.
    """

    loss: Loss | None = None
    classifies: bool = True
    teachers: "tuple[torch.nn.Module, ...]" = ()
    constant_teachers: bool = False
    regulariser: "Callable[[torch.nn.Module], torch.Tensor] | None" = None
    before_step: Hook | None = None
    after_step: Hook | None = None
    optimizer: OptimizerOf = adam
    state: tuple[Stateful, ...] | None = None

    @property
    def kept(self) -> tuple[Stateful, ...] | None:
        """``state``; empty if there are no hooks that could keep anything."""
        hooked = self.before_step is not None or self.after_step is not None
        return self.state if hooked or self.state is not None else ()
