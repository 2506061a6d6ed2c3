"""The state of a training between two epochs."""

import copy
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgepack.data.splits import arrays_of, hash_arrays
from edgepack.spec import Train, TrainingRecord
from edgepack.torchnet.objective import Objective

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from edgepack.data import Splits

Values = dict[str, Any]
"""Copies of all values that are trained, and of what hooks keep."""


@dataclass(frozen=True)
class TrainingState:
    """What an epoch changes: the module, parameters outside of it, and what the objective's hooks keep.

    Attributes:
        module: the trained module.
        objective: its objective.
        optimizer: of this training.
    """

    module: "torch.nn.Module"
    objective: Objective
    optimizer: "torch.optim.Optimizer"
    _infinite: frozenset[str] = field(init=False)  # before training, such as a mask of attention

    def __post_init__(self) -> None:
        object.__setattr__(self, "_infinite", frozenset(self._not_finite()))

    @property
    def is_whole(self) -> bool:
        """Whether it is all that an epoch changes, beside the optimizer's own state: an optimizer may keep anything."""
        return self.objective.kept is not None and type(self.optimizer).__module__.startswith("torch.optim.")

    def copy(self) -> Values:
        """Return copies of all values."""
        return {
            "tensors": {name: tensor.detach().clone() for name, tensor in self._tensors().items()},
            "hooks": [copy.deepcopy(each.state_dict()) for each in self.objective.kept or ()],
        }

    def restore(self, weights: Values) -> None:
        """Set all values to those of a copy."""
        import torch

        with torch.no_grad():
            for name, tensor in self._tensors().items():
                tensor.copy_(weights["tensors"][name])
        for each, kept in zip(self.objective.kept or (), weights["hooks"], strict=True):
            each.load_state_dict(copy.deepcopy(kept))

    def broken(self) -> str | None:
        """The name of a value that has become NaN or infinite, if there is one."""
        return next((name for name in self._not_finite() if name not in self._infinite), None)

    def digest(self, spec: Train, data: "Splits") -> str:
        """The sha256 of what a training starts from: values, settings, training samples."""
        import torch

        found = hashlib.sha256(spec.model_dump_json().encode())
        for name, tensor in sorted(self._tensors().items()):
            found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            found.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
        hash_arrays(found, (*arrays_of(data.x_train), *arrays_of(data.y_train)))
        return found.hexdigest()

    def _not_finite(self) -> "Iterator[str]":
        import torch

        for name, tensor in self._tensors().items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                yield name

    def _tensors(self) -> "dict[str, torch.Tensor]":
        """Parameters and buffers by name, and by number the parameters that only the optimizer has."""
        found = dict([*self.module.named_parameters(), *self.module.named_buffers()])
        own = {id(tensor) for tensor in found.values()}
        grouped = [each for group in self.optimizer.param_groups for each in group["params"]]
        outside = [each for each in grouped if id(each) not in own]
        return found | {f"parameter {number} outside the module": each for number, each in enumerate(outside)}


@dataclass
class EpochsSoFar:
    """How far a training has come.

    If it diverges, the weights after the epoch with the lowest mean loss are kept: a figure of the training split, so that
    the choice learns nothing from the test split. An objective with a hook before each step follows a schedule, such as a
    growing sparsity, by which the loss may rise; then it is the last epoch before.

    Attributes:
        scheduled: whether it is the last epoch.
        finished: epochs with finite values.
        loss: mean over the batches of the last of them.
        kept: the epoch whose weights would be kept.
        kept_loss: its mean loss.
        weights: its weights.
        diverged: what became NaN or infinite, and when.
    """

    scheduled: bool
    finished: int = 0
    loss: float = 0.0
    kept: int = 0
    kept_loss: float = 0.0
    weights: Values | None = None
    diverged: str | None = None

    def add(self, loss: float, state: TrainingState) -> None:
        """Note an epoch with finite values."""
        self.finished, self.loss = self.finished + 1, loss
        if self.kept == 0 or self.scheduled or loss <= self.kept_loss:
            self.kept, self.kept_loss, self.weights = self.finished, loss, state.copy()

    def to_dict(self) -> dict[str, Any]:
        """All values; without the weights if they are those of the last epoch."""
        return {**vars(self), "weights": None if self.kept == self.finished else self.weights}

    def resume(self, values: dict[str, Any], weights: Values) -> None:
        """Take over the values of another course; ``weights`` are those of its last epoch."""
        vars(self).update(values)
        self.weights = self.weights or weights

    def end(self, diverged: str) -> Values:
        """Note that the training diverged; returns the weights to go back to. There must be an epoch with finite values."""
        if self.weights is None:
            raise ValueError("no epoch has ended with finite values")
        self.diverged, self.loss = diverged, self.kept_loss
        return self.weights

    def record(self, spec: Train) -> TrainingRecord:
        """The record of a training that has ended."""
        kept = self.finished if self.diverged is None else self.kept
        return TrainingRecord(
            epochs=spec.epochs, kept=kept, loss=self.loss, seed=spec.seed, diverged=self.diverged
        )
