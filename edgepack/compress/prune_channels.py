"""Structured pruning: whole channels go, so that every runtime gains.

Which channels must go together is found in the traced graph (edgepack/compress/channels.py); the idea of
grouping dependent channels is that of DepGraph (Fang et al. 2023, arXiv:2301.12900). A channel's
importance is the norm of the filter that makes it (L1: Li et al. 2017, arXiv:1608.08710; L2: He et al.
2018, arXiv:1808.06866) or the scale of its batch normalisation (Liu et al. 2017, arXiv:1708.06519).
"""

import difflib
import fnmatch
import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgepack.errors import EdgepackError, InputError
from edgepack.spec import Spec, Train

if TYPE_CHECKING:
    import torch

    from edgepack.compress.channels import Cell, Channels
    from edgepack.compress.method import Context, Result

STAGE: Literal["torch"] = "torch"

_TOLERANCE = 1e-3  # relative; pruning only leaves terms out of sums, rounding aside


class PruneChannels(Spec):
    """Remove the least important channels of each layer, then fine-tune."""

    method: Literal["prune-channels"]
    ratio: float = Field(gt=0, lt=1, description="Share of channels removed from each prunable layer.")
    criterion: Literal["l1", "l2", "bn"] = Field(
        default="l1", description="Importance: norm of the filter, or scale of its batch normalisation."
    )
    round_to: int = Field(default=1, ge=1, description="Layers keep a multiple of this many channels.")
    skip: tuple[str, ...] = Field(
        default=(), description="Layers that keep all channels: names, * and ? match."
    )
    fine_tune: Train | None = Field(default=None, description="Train afterwards, on the training split.")


def apply(module: "torch.nn.Module", step: PruneChannels, context: "Context") -> "Result":
    """Prune a copy of ``module``, check it against the original with those channels masked, fine-tune it.

    Metrics: ``parameters`` and ``macs`` as ``[before, after]``; ``layers``: name to channels ``[before,
    after]``; ``kept_whole``: name to the reason why a layer lost nothing; with data, ``accuracy`` (test,
    0..1) ``before``, ``pruned`` and after ``fine_tune``.

    Raises:
        InputError: if the model cannot be traced, nothing in it can be pruned, a ``skip`` name is
            unknown, the criterion does not apply, or fine-tuning lacks data.
    """
    import copy

    from edgepack.compress.channels import analyse
    from edgepack.compress.method import Result
    from edgepack.torchnet.layers import count_module, example_inputs
    from edgepack.torchnet.training import accuracy, train

    if step.fine_tune is not None and context.data is None:
        raise InputError("fine_tune needs samples", next="add a data block to the recipe, or drop fine_tune")
    pruned = copy.deepcopy(module).eval()
    examples = example_inputs(context.inputs)
    channels = analyse(pruned, examples)
    _lock_skipped(channels, step.skip)
    cells = channels.cells()
    removed: set[int] = set()
    for cell in cells:
        removed |= _least_important(channels, cell, step)
    if not removed:
        raise InputError(
            f"{type(module).__name__} has no channels to remove with ratio {step.ratio:g}, round_to {step.round_to}",
            why="; ".join(f"{name}: {why}" for name, why in list(channels.reasons().items())[:4]) or None,
            next="raise ratio, lower round_to, or drop this step",
        )
    before = count_module(pruned, examples)
    widths = {name: channels.width(name) for name in channels.producers}
    expected = _masked_outputs(pruned, channels, removed, examples)
    channels.remove(removed)
    _check_equal(pruned, examples, expected)
    after = count_module(pruned, examples)
    metrics: dict[str, Any] = {
        "parameters": [before.parameters, after.parameters],
        "macs": [before.macs, after.macs],
        "layers": {name: [width, channels.width(name)] for name, width in widths.items()},
        "kept_whole": channels.reasons(),
    }
    if context.data is not None:
        x, y = context.data.x_test, context.data.y_test
        metrics["accuracy"] = {"before": accuracy(module, x, y), "pruned": accuracy(pruned, x, y)}
        if step.fine_tune is not None:
            trained = train(pruned, context.data, step.fine_tune, context.progress)
            metrics["accuracy"]["fine_tune"] = trained["test_accuracy"]
    return Result(pruned, metrics)


def _lock_skipped(channels: "Channels", patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        matched = fnmatch.filter(channels.producers, pattern)
        if not matched:
            near = difflib.get_close_matches(pattern, channels.producers, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(channels.producers)}"
            raise InputError(f"no layer is called {pattern!r}{hint}", where="compress, prune-channels, skip")
        for name in matched:
            channels.lock(channels.outputs[name], "skipped by the recipe")


def _least_important(channels: "Channels", cell: "Cell", step: PruneChannels) -> set[int]:
    """The members of ``cell`` to remove: those of least importance, a whole number of ``round_to``."""
    # A layer with n channels a member keeps a multiple of round_to if the members kept are a multiple of this.
    multiple = math.lcm(*(step.round_to // math.gcd(step.round_to, n) for n in cell.multiplicity.values()))
    size = len(cell.members)
    keep = max(multiple, round(size * (1 - step.ratio) / multiple) * multiple)
    if keep >= size:
        return set()
    scores = channels.importance(cell, step.criterion)
    order = sorted(range(size), key=lambda i: (scores[i], -i))
    return {cell.members[i] for i in order[: size - keep]}


def _masked_outputs(
    module: "torch.nn.Module", channels: "Channels", removed: set[int], examples: "tuple[torch.Tensor, ...]"
) -> "list[torch.Tensor]":
    """What the original computes when nothing reads the removed channels."""
    import copy

    import torch
    from torch.utils import _pytree

    masked = copy.deepcopy(module)
    channels.mask(masked, removed)
    with torch.no_grad():
        return list(_pytree.tree_leaves(masked(*examples)))


def _check_equal(
    module: "torch.nn.Module", examples: "tuple[torch.Tensor, ...]", expected: "list[torch.Tensor]"
) -> None:
    import torch
    from torch.utils import _pytree

    next_step = "drop this step, or skip the layers around the operation"
    try:
        with torch.no_grad():
            outputs = _pytree.tree_leaves(module(*examples))
    except Exception as error:
        raise InputError(
            "the pruned model does not run",
            why=f"forward() counts on the number of channels: {str(error).strip()}",
            next=next_step,
        ) from error
    for got, want in zip(outputs, expected, strict=True):
        if got.shape != want.shape or not torch.allclose(
            got, want, _TOLERANCE, _TOLERANCE * float(want.abs().max())
        ):
            raise EdgepackError(
                "the pruned model does not compute what the masked original does",
                why="an operation in forward() mixes channels in a way the analysis does not know",
                next=next_step,
            )
