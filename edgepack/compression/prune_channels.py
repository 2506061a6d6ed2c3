"""Structured pruning: remove whole channels, which speeds up every runtime.

Channels that must be removed together are determined from the traced graph (edgepack/torchnet/channels), their
importance by edgepack/compression/importance.py.
"""

import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgepack.compression.method import Context, Need, Step, TorchMethod, TorchResult
from edgepack.compression.selection import select
from edgepack.errors import EdgepackError, InputError
from edgepack.spec import Train

if TYPE_CHECKING:
    import torch

    from edgepack.torchnet.channels import ChannelGraph, ChannelGroup

_TOLERANCE = 1e-3  # relative; pruning only removes terms from sums, apart from rounding


class PruneChannels(Step):
    """Remove the least important channels of each layer, then fine-tune."""

    method: Literal["prune-channels"]
    ratio: float = Field(gt=0, lt=1, description="Share of channels removed from each prunable layer.")
    criterion: Literal["l1", "l2", "bn"] = Field(
        default="l1", description="Importance: norm of the filter, or scale of its batch normalisation."
    )
    round_to: int = Field(default=1, ge=1, description="Round the remaining channels to a multiple of this.")
    skip: tuple[str, ...] = Field(
        default=(), description="Layers that keep all channels: names, with * and ? as wildcards."
    )
    fine_tune: Train | None = Field(default=None, description="Fine-tune afterwards, on the training split.")


def apply(module: "torch.nn.Module", step: PruneChannels, context: Context) -> TorchResult:
    """Prune a copy of ``module``, check it against the original with those channels masked, fine-tune it.

    Metrics: ``parameters`` and ``macs`` as ``[before, after]``; ``layers``: name to channels ``[before,
    after]``; ``kept_whole``: name to the reason why a layer was not pruned; with data, ``accuracy`` (test,
    0..1) ``before``, ``pruned`` and after ``fine_tune``.

    Raises:
        InputError: if the model cannot be traced, nothing in it can be pruned, a ``skip`` name is
            unknown, the criterion does not apply, or fine-tuning lacks data.
    """
    import copy

    from edgepack.torchnet.channels import analyse, remove
    from edgepack.torchnet.layers import count_module, example_inputs

    pruned = copy.deepcopy(module).eval()
    examples = example_inputs(context.inputs)
    graph = analyse(pruned, examples)
    producers = {name: (name,) for name in graph.producers}
    for name in select(step.skip, producers, kind="layer", where="compress, prune-channels, skip"):
        graph.sets.lock(graph.outputs[name], "skipped by the recipe")
    removed: set[int] = set()
    for group in graph.groups():
        removed |= _least_important(graph, group, step)
    if not removed:
        raise InputError(
            f"{type(module).__name__} has no channels to remove with ratio {step.ratio:g}, round_to {step.round_to}",
            why="; ".join(f"{name}: {why}" for name, why in list(graph.reasons().items())[:4]) or None,
            next="raise ratio, lower round_to, or remove this step",
        )
    before = count_module(pruned, examples)
    widths = {name: graph.width(name) for name in graph.producers}
    expected = _masked_outputs(pruned, graph, removed, examples)
    remove(graph, removed)
    _check_equal(pruned, examples, expected)
    after = count_module(pruned, examples)
    metrics: dict[str, Any] = {
        "parameters": [before.parameters, after.parameters],
        "macs": [before.macs, after.macs],
        "layers": {name: [width, graph.width(name)] for name, width in widths.items()},
        "kept_whole": graph.reasons(),
    }
    if context.data is not None:
        metrics["accuracy"] = {"before": context.score(module), "pruned": context.score(pruned)}
    if step.fine_tune is not None:
        context.train(pruned, step.fine_tune)
        metrics["accuracy"]["fine_tune"] = context.score(pruned)
    return TorchResult(pruned, metrics)


def _needs(step: PruneChannels) -> tuple[Need, ...]:
    return (Need("labels", "fine-tuning", "fine_tune"),) if step.fine_tune is not None else ()


METHOD = TorchMethod(
    spec=PruneChannels,
    apply=apply,
    needs=_needs,
    distributions=("torch",),
    sources=(
        "compression/importance.py",
        "compression/prune_channels.py",
        "compression/selection.py",
        "torchnet/channels",
    ),
)


def _least_important(graph: "ChannelGraph", group: "ChannelGroup", step: PruneChannels) -> set[int]:
    """Return the members of ``group`` to remove: the least important ones, in multiples of ``round_to``."""
    from edgepack.compression.importance import importance

    # With n channels per member, keeping a multiple of this many members keeps a multiple of round_to channels.
    multiple = math.lcm(*(step.round_to // math.gcd(step.round_to, n) for n in group.multiplicity.values()))
    size = len(group.members)
    keep = max(multiple, round(size * (1 - step.ratio) / multiple) * multiple)
    if keep >= size:
        return set()
    scores = importance(graph, group, step.criterion)
    order = sorted(range(size), key=lambda i: (scores[i], -i))
    return {group.members[i] for i in order[: size - keep]}


def _masked_outputs(
    module: "torch.nn.Module", graph: "ChannelGraph", removed: set[int], examples: "tuple[torch.Tensor, ...]"
) -> "list[torch.Tensor]":
    """Return the outputs of the original if nothing reads the removed channels."""
    import copy

    import torch
    from torch.utils import _pytree

    from edgepack.torchnet.channels import mask

    masked = copy.deepcopy(module)
    mask(graph, masked, removed)
    with torch.no_grad():
        return list(_pytree.tree_leaves(masked(*examples)))


def _check_equal(
    module: "torch.nn.Module", examples: "tuple[torch.Tensor, ...]", expected: "list[torch.Tensor]"
) -> None:
    import torch
    from torch.utils import _pytree

    next_step = "remove this step, or skip the layers around the operation"
    try:
        with torch.no_grad():
            outputs = _pytree.tree_leaves(module(*examples))
    except Exception as error:
        raise InputError(
            "the pruned model does not run",
            why=f"forward() depends on the number of channels: {str(error).strip()}",
            next=next_step,
        ) from error
    for got, want in zip(outputs, expected, strict=True):
        if got.shape != want.shape or not torch.allclose(
            got, want, _TOLERANCE, _TOLERANCE * float(want.abs().max())
        ):
            raise EdgepackError(
                "the pruned model does not compute the same as the masked original",
                why="an operation in forward() mixes channels in an unsupported way",
                next=next_step,
            )
