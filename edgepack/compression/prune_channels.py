"""Structured pruning: remove whole channels, neurons and attention heads, which speeds up every runtime.

Channels that must be removed together are determined from the traced graph (edgepack/torchnet/channels), or from the
ONNX graph (edgepack/compression/prune_onnx_channels.py); their importance by importance.py, how many of them are kept by
channel_choice.py.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from edgepack.compression.channel_choice import PruneChannels, conflicts
from edgepack.compression.method import (
    Context,
    EitherMethod,
    Need,
    OnnxMethod,
    TorchMethod,
    TorchResult,
    require_consistent,
)
from edgepack.compression.prune_onnx_channels import apply as apply_onnx
from edgepack.compression.sensitive import SOURCES as SENSITIVE
from edgepack.compression.sensitive import samples_for
from edgepack.errors import EdgepackError, InputError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from edgepack.compression.channel_choice import Start
    from edgepack.torchnet.channels import ChannelGraph, ChannelGroup

_TOLERANCE = 1e-3  # relative; pruning only removes terms from sums, apart from rounding


def apply(module: "torch.nn.Module", step: PruneChannels, context: Context) -> TorchResult:
    """Prune a copy of ``module``, check it against the original with those channels masked, fine-tune it.

    Metrics: ``parameters`` and ``macs`` as ``[before, after]``; ``layers``: name to channels ``[before,
    after]``; ``kept_whole``: name to the reason why a layer was not pruned; with data, ``score`` (the recipe's metric
    on the test split) ``before``, ``pruned`` and after ``fine_tune``.

    Raises:
        InputError: if the model cannot be traced, nothing in it can be pruned, a ``skip`` name is
            unknown, the criterion does not apply, a budget cannot be met, or samples are missing.
    """
    import copy

    from edgepack.compression.channel_choice import Start, nothing_removed
    from edgepack.torchnet.layers import count_module, example_inputs

    require_consistent(step, conflicts(step))
    pruned = copy.deepcopy(module).eval()
    examples = example_inputs(context.inputs)
    before = count_module(pruned, examples)
    start, scores = Start(), {}
    if context.data is not None:
        scores["before"] = context.score(module)
    for iteration in range(1, step.iterations + 1):
        graph, removed = _prune_once(pruned, step, context, iteration / step.iterations, start)
        if not removed:
            continue
        if context.data is not None:
            scores["pruned"] = context.score(pruned)
        if step.fine_tune is not None:
            context.train(pruned, step.fine_tune)
            scores["fine_tune"] = context.score(pruned)
    after = count_module(pruned, examples)
    if after == before:
        raise nothing_removed(type(module).__name__, step, graph)
    metrics: dict[str, Any] = {
        "parameters": [before.parameters, after.parameters],
        "macs": [before.macs, after.macs],
        "layers": {name: [width, graph.width(name)] for name, width in start.widths.items()},
        "kept_whole": graph.reasons(),
    }
    if scores:
        metrics["score"] = scores
    return TorchResult(pruned, metrics)


def _needs(step: PruneChannels) -> tuple[Need, ...]:
    needs = []
    if step.fine_tune is not None:
        needs.append(Need("labels", "fine-tuning", "fine_tune"))
    if step.criterion == "taylor":
        needs.append(Need("labels", "the criterion taylor", "criterion"))
    if step.criterion == "activation":
        needs.append(Need("samples", "the criterion activation", "criterion"))
    return (*needs, *samples_for(step.skip))


def _needs_onnx(step: PruneChannels) -> tuple[Need, ...]:
    needs = [each for each in _needs(step) if each.kind == "samples"]
    if step.fine_tune is not None:
        needs.append(Need("gradients", "fine-tuning", "fine_tune"))
    if step.criterion == "taylor":
        needs.append(Need("gradients", "the criterion taylor", "criterion"))
    return tuple(needs)


_QUANTIZED = "its layers have scales for each channel; prune before quantizing"
_SHARED = (
    *SENSITIVE,
    "compression/channel_choice.py",
    "compression/prune_channels.py",
    "compression/ranking.py",
    "compression/widths.py",
    "torchnet/channels",
)

METHOD = EitherMethod.of(
    TorchMethod(
        spec=PruneChannels,
        apply=apply,
        needs=_needs,
        conflicts=conflicts,
        by_target=lambda step: step.round_to == "auto",
        destroys={
            "encoded": "its layers store codes in place of the weights that would be removed",
            "fake-quantized": _QUANTIZED,
            "quantized": _QUANTIZED,
            "half": "weights in 16 bits are not read as float32; prune first",
        },
        distributions=("torch",),
        sources=(
            *_SHARED,
            "compression/calibration.py",
            "compression/importance.py",
            "compression/sensitivity",
        ),
    ),
    OnnxMethod(
        spec=PruneChannels,
        apply=apply_onnx,
        needs=_needs_onnx,
        distributions=("onnx", "onnxruntime", "numpy"),
        sources=(
            *_SHARED,
            "compression/feeding.py",
            "compression/onnx_channels",
            "compression/prune_onnx_channels.py",
        ),
    ),
)


def _prune_once(
    pruned: "torch.nn.Module", step: PruneChannels, context: Context, share: float, start: "Start"
) -> "tuple[ChannelGraph, set[int]]":
    """Prune ``pruned`` in place, to ``share`` of the way; return its channels, and the sets that were removed."""
    from edgepack.compression.batches import BATCH, training_feeds
    from edgepack.compression.channel_choice import Chooser, lock_sensitive, lock_skipped
    from edgepack.compression.sensitive import COMPARED
    from edgepack.compression.sensitivity.torch_level import outputs_of
    from edgepack.torchnet.channels import analyse, remove
    from edgepack.torchnet.layers import example_inputs, layer_macs

    examples = example_inputs(context.inputs)
    graph = analyse(pruned, examples)
    lock_skipped(graph, step)
    start.widths = start.widths or {name: graph.width(name) for name in graph.producers}

    least = Chooser(
        graph,
        step,
        context.lanes,
        score=lambda groups: _scores(graph, groups, step, context),
        volumes={"macs": graph.macs(layer_macs(pruned, examples)), "size": graph.elements()},
    )

    def outputs(removed: AbstractSet[int]) -> "list[np.ndarray]":
        masked = _masked(pruned, graph, removed)
        return outputs_of(masked, training_feeds(context, COMPARED, step.seed, batch=BATCH))

    lock_sensitive(graph, step, start, least=least, outputs=outputs, context=context)
    removed = least(graph.groups(), share, start)
    if removed:
        expected = _masked_outputs(pruned, graph, removed, examples)
        remove(graph, removed)
        _check_equal(pruned, examples, expected)
    return graph, removed


def _scores(
    graph: "ChannelGraph", groups: "Sequence[ChannelGroup]", step: PruneChannels, context: Context
) -> list[list[float]]:
    """Return the importance of the members of each group."""
    from edgepack.compression import importance, ranking
    from edgepack.compression.calibration import calibration_batches

    if not groups:
        return []
    if step.criterion == "random":
        return [ranking.random_importance(group, step.seed) for group in groups]
    if step.criterion == "activation":
        batches = calibration_batches(context, step.samples, step.seed, "the criterion activation")
        by_set = importance.activations(graph, batches)
        return [[by_set.get(root, 0.0) for root in group.members] for group in groups]
    by_layer = importance.layer_scores(graph, step.criterion, context, step.seed)
    relative = step.criterion in {"l1", "l2"} or (step.criterion == "bn" and step.scope == "layer")
    return [
        ranking.require_scores(
            ranking.combine(graph, group, by_layer, relative=relative), group, step.criterion
        )
        for group in groups
    ]


def _masked_outputs(
    module: "torch.nn.Module", graph: "ChannelGraph", removed: set[int], examples: "tuple[torch.Tensor, ...]"
) -> "list[torch.Tensor]":
    """Return the outputs of the original if nothing reads the removed channels."""
    import torch
    from torch.utils import _pytree

    with torch.no_grad():
        return list(_pytree.tree_leaves(_masked(module, graph, removed)(*examples)))


def _masked(module: "torch.nn.Module", graph: "ChannelGraph", removed: AbstractSet[int]) -> "torch.nn.Module":
    """Return a copy of the analysed module in which nothing reads the removed channels."""
    import copy

    from edgepack.torchnet.channels import mask

    masked = copy.deepcopy(module)
    mask(graph, masked, removed)
    return masked


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
