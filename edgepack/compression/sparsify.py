"""Set weights to zero: at once, or step by step while training; by magnitude, or by movement.

Magnitude: Han et al. 2015, arXiv:1506.02626. The gradual schedule is that of Zhu and Gupta 2017, arXiv:1710.01878.
Movement: Sanh et al. 2020, arXiv:2005.07683: a weight that moves towards zero while training is pruned.
"""

import copy
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgepack.compression.method import Context, Need, Step, Trait
from edgepack.compression.selection import Skip, select, skipped
from edgepack.compression.sensitive import samples_for
from edgepack.compression.sensitive_modules import SOURCES as SENSITIVE
from edgepack.compression.sensitive_modules import noise_of_modules
from edgepack.errors import InputError
from edgepack.spec import Train

if TYPE_CHECKING:
    import torch

    from edgepack.torchnet.masks import PrunableWeight

Criterion = Literal["magnitude", "movement"]
Schedule = Literal["one-shot", "gradual"]

_RISE = 0.5  # share of the training in which the sparsity rises; in the rest the weights recover
_UPDATES = 100  # of the masks in that time, or in all of the training for movement
_SCORE_LR = 1e-2  # learning rate of the scores of movement, as in the paper

Masks = Callable[["Mapping[str, torch.Tensor]", float], "dict[str, torch.Tensor]"]
"""Which weights are kept, from the scores ``[rows, positions, columns]`` of each, at a share (0..1) of the final sparsity."""


DESTROYS: Mapping[Trait, str] = {
    "encoded": "its layers store codes in place of the weights that would become zero",
    "fake-quantized": "its layers have learned their scales with all weights; prune before quantizing",
}
SOURCES = (
    *SENSITIVE,
    "compression/sparsify.py",
    "torchnet/masks.py",
    "torchnet/sparsity.py",
)


class SparseStep(Step):
    """A step that sets weights to zero."""

    scope: Literal["layer", "global"] = Field(
        default="layer",
        description="Whether each layer loses its share, or all layers together, by importance.",
    )
    schedule: Schedule = Field(
        default="one-shot", description="Prune before fine_tune, or gradually in its first half."
    )
    skip: Skip = Field(
        default=(),
        description="Layers that keep all weights: names, with * and ? as wildcards; auto or a limit in dB, by sensitivity.",
    )
    fine_tune: Train | None = Field(default=None, description="Train the weights that are left.")


def needs(step: SparseStep) -> tuple[Need, ...]:
    """Labels for fine-tuning, and samples for ``skip`` by sensitivity."""
    trained = (Need("labels", "fine-tuning", "fine_tune"),) if step.fine_tune is not None else ()
    return (*trained, *samples_for(step.skip))


def sparsify(
    module: "torch.nn.Module",
    pruned: "torch.nn.Module",
    chosen: "tuple[dict[str, PrunableWeight], MutableMapping[str, str]]",
    *,
    masks: "Masks",
    step: SparseStep,
    context: Context,
    criterion: Criterion = "magnitude",
) -> dict[str, Any]:
    """Prune the chosen weights of ``pruned``, a copy of ``module``, in place, train it, and return the metrics.

    Args:
        module: the original.
        pruned: its copy, in eval mode.
        chosen: the weights by name, and why others are left alone; sensitive ones are moved there.
        masks: chooses what is kept.
        step: its options.
        context: of the step.
        criterion: what a weight's score is.

    Raises:
        InputError: nothing changes, or fine-tuning lacks data.
    """
    weights, left = chosen
    leave_sensitive(pruned, step.skip, weights, left, masks=masks, context=context)
    parameters = dict(pruned.named_parameters())
    before = {name: parameters[weight.name].detach().clone() for name, weight in weights.items()}
    how = Sparsifying(weights, masks, criterion, step.schedule, step.fine_tune)
    score = context.score(module)
    scores = {} if score is None else {"before": score}
    if weights:
        scores |= how.run(pruned, context)
    pruned.eval()
    after = {name: parameters[weight.name].detach() for name, weight in weights.items()}
    return metrics_of(before, after, left, scores, step.method)


@dataclass(frozen=True)
class Sparsifying:
    """What is pruned, and how.

    Attributes:
        weights: the weights, by name.
        masks: chooses what is kept.
        criterion: what a weight's score is.
        schedule: whether all is pruned before training, or gradually.
        train: training, if any.
    """

    weights: "Mapping[str, PrunableWeight]"
    masks: Masks
    criterion: Criterion
    schedule: Schedule
    train: Train | None

    def run(self, module: "torch.nn.Module", context: Context) -> dict[str, float]:
        """Prune ``module`` in place; return its score ``pruned`` (if it is pruned at once) and after ``fine_tune``."""
        scores: dict[str, float | None] = {}
        state = _State(self, module)
        if self.train is None or (self.schedule == "one-shot" and self.criterion == "magnitude"):
            state.prune(1.0)
            scores["pruned"] = context.score(module)
            if self.train is not None:
                context.train(module, self.train)
        else:
            from edgepack.torchnet.objective import Objective

            hooks = Objective(before_step=state.before_step, after_step=state.after_step, state=(state,))
            context.train(module, self.train, hooks)
            state.prune(1.0)
        if self.train is not None:
            scores["fine_tune"] = context.score(module)
        return {key: value for key, value in scores.items() if value is not None}


class _State:
    """The masks while training, and for movement the weights without masks."""

    def __init__(self, how: Sparsifying, module: "torch.nn.Module") -> None:
        import torch

        self._how = how
        parameters = dict(module.named_parameters())
        self._tensors = {name: parameters[weight.name] for name, weight in how.weights.items()}
        self._masks = {
            name: torch.ones_like(tensor, dtype=torch.bool) for name, tensor in self._tensors.items()
        }
        self._whole = {name: tensor.detach().clone() for name, tensor in self._tensors.items()}
        # Weights that were zero before have no movement, and stay zero.
        self._zero = {name: tensor == 0 for name, tensor in self._whole.items()}
        self._movement = {name: torch.zeros_like(tensor) for name, tensor in self._whole.items()}
        self._learning = torch.optim.Adam(self._movement.values(), lr=_SCORE_LR)
        self._updated = -1

    def state_dict(self) -> dict[str, Any]:
        """Masks, weights without masks, and what the scores have learned."""
        tensors = {"masks": self._masks, "whole": self._whole, "movement": self._movement}
        return {**tensors, "learning": self._learning.state_dict(), "updated": self._updated}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        import torch

        with torch.no_grad():
            for name, movement in self._movement.items():  # in place: they are parameters of an optimizer
                movement.copy_(state["movement"][name])
        self._masks, self._whole = dict(state["masks"]), dict(state["whole"])
        self._learning.load_state_dict(state["learning"])
        self._updated = state["updated"]

    def before_step(self, _module: "torch.nn.Module", done: float) -> None:
        """Raise the sparsity along the schedule, and mask the weights."""
        at = min(1.0, done / _RISE)
        moving = self._how.criterion == "movement"  # the masks follow the scores to the end
        update = int((done if moving else at) * _UPDATES)
        if update > self._updated:
            self._updated = update
            self.prune(1.0 - (1.0 - at) ** 3)

    def after_step(self, _module: "torch.nn.Module", _done: float) -> None:
        """Take over the update of the weights that are kept, and note where all of them move."""
        import torch

        with torch.no_grad():
            for name, tensor in self._tensors.items():
                mask = self._masks[name]
                if self._how.criterion == "movement":
                    grad = tensor.grad
                    self._movement[name].grad = None if grad is None else grad * self._whole[name]
                    self._whole[name] = torch.where(mask & ~self._zero[name], tensor, self._whole[name])
                tensor.mul_(mask)
            if self._how.criterion == "movement":
                self._learning.step()

    def prune(self, share: float) -> None:
        """Mask the weights for a share of the final sparsity."""
        import torch

        movement = self._how.criterion == "movement"
        with torch.no_grad():
            scores = {
                name: self._movement[name].masked_fill(self._zero[name], -torch.inf)
                if movement
                else self._tensors[name].abs()
                for name in self._how.weights
            }
            scores = {name: weight.rows(scores[name]) for name, weight in self._how.weights.items()}
            kept = self._how.masks(scores, share)
            for name, weight in self._how.weights.items():
                tensor = self._tensors[name]
                self._masks[name] = weight.restore(kept[name], tensor.shape)
                tensor.copy_((self._whole[name] if movement else tensor) * self._masks[name])


def selected(
    module: "torch.nn.Module", skip: Skip, method: str
) -> "tuple[dict[str, PrunableWeight], dict[str, str]]":
    """Return the weights that a step may prune, by name, and why others are left alone; sensitive ones are not left yet.

    Raises:
        InputError: a ``skip`` pattern matches nothing.
    """
    from edgepack.torchnet.masks import prunable_weights

    weights, left = prunable_weights(module)
    names = {name: tuple({name, weight.layer}) for name, weight in weights.items()}
    patterns = skip if isinstance(skip, tuple) else ()
    for name in select(
        patterns,
        {**names, **{name: (name,) for name in left}},
        kind="layer",
        where=f"compress, {method}, skip",
    ):
        left[name] = "skipped by the recipe"
        weights.pop(name, None)
    return weights, left


def leave_sensitive(
    module: "torch.nn.Module",
    skip: Skip,
    weights: "dict[str, PrunableWeight]",
    left: "MutableMapping[str, str]",
    *,
    masks: Masks,
    context: Context,
) -> None:
    """Move the weights that are sensitive to being pruned from ``weights`` to ``left``, if ``skip`` asks for it.

    Each weight is pruned alone, and the outputs on training samples are compared.
    """
    if isinstance(skip, tuple):
        return

    def alone(name: str, weight: "PrunableWeight") -> "torch.nn.Module":
        changed = copy.deepcopy(module)
        tensor = dict(changed.named_parameters())[weight.name].data
        kept = masks({name: weight.rows(tensor.abs())}, 1.0)[name]
        tensor.mul_(weight.restore(kept, tensor.shape))
        return changed

    def noise() -> dict[str, float]:
        changes = {name: partial(alone, name, weight) for name, weight in weights.items()}
        return noise_of_modules(module, changes, context)

    names = {name: (name,) for name in weights}
    for name, why in skipped(skip, names, noise, kind="layer", where="compress, skip").items():
        left[name] = why
        del weights[name]


def metrics_of(
    before: "Mapping[str, torch.Tensor]",
    after: "Mapping[str, torch.Tensor]",
    left: Mapping[str, str],
    scores: Mapping[str, Any],
    method: str,
) -> dict[str, Any]:
    """Return ``sparsity`` over all pruned weights, ``layers``: name to the share of zeros, each ``[before, after]``.

    Also ``kept_whole``: name to the reason why a weight is left alone, and ``score`` if there are scores.

    Raises:
        InputError: nothing has changed.
    """
    from edgepack.torchnet.masks import share_of_zeros

    zeros = [share_of_zeros(before), share_of_zeros(after)]
    if zeros[1] <= zeros[0]:
        raise InputError(
            f"{method} changes nothing: {zeros[0]:.1%} of the weights are zero, as before"
            if before
            else f"{method} changes nothing: the model has no weights that it can prune",
            where=f"compress, {method}",
            why="; ".join(f"{name}: {why}" for name, why in list(left.items())[:4]) or None,
            next="raise ratio, skip fewer layers, or remove this step",
        )
    layers = {
        name: [round(share_of_zeros({name: each}), 4) for each in (tensor, after[name])]
        for name, tensor in before.items()
    }
    found: dict[str, Any] = {
        "sparsity": [round(each, 4) for each in zeros], "layers": layers, "kept_whole": dict(left)
    }  # fmt: skip
    if scores:
        found["score"] = dict(scores)
    return found
