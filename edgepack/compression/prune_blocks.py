"""Block pruning: blocks of rows and columns of the packed weights become zero, and are not stored.

Blocks have the shape in which kernels read weights, so that a kernel can skip them (Gray et al. 2017, "GPU kernels for
block-sparse weights"; Narang et al. 2017, arXiv:1711.02782). The .onnx file holds only the blocks that are left
(edgepack/onnxfile/sparse_blocks.py).
"""

import copy
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from edgepack.compression.method import Context, TorchMethod, TorchResult, require_consistent
from edgepack.compression.sparsify import DESTROYS, SOURCES, Masks, SparseStep, needs, selected, sparsify

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from edgepack.torchnet.masks import Blocks

_COLUMNS = 4  # input channels that a dot product of bytes adds up
_SMALLEST = (8, 2)  # weights and columns of a block for auto: smaller ones cost a kernel more than they save
Size = Annotated[int, Field(ge=1, le=256)]


class PruneBlocks(SparseStep):
    """Set the least important blocks of weights to zero; the bundle stores only those that are left."""

    method: Literal["prune-blocks"]
    ratio: float = Field(gt=0, lt=1, description="Share of the blocks that become zero.")
    block: Literal["auto"] | tuple[Size, Size] = Field(
        default="auto",
        description="Outputs and inputs of a block; auto: the targets' vector width by 4, as kernels read packed weights.",
    )
    norm: Literal["l1", "l2"] = Field(default="l2", description="Norm of a block by which it is kept.")


def apply(module: "torch.nn.Module", step: PruneBlocks, context: Context) -> TorchResult:
    """Prune a copy of ``module``, and train what is left of it.

    Metrics: ``sparsity`` of all weights that may be pruned, and ``layers``: name to share of zeros, both ``[before,
    after]``; ``blocks``: name to rows and columns; ``kept_whole``: name to the reason why a weight was left alone;
    ``score`` (the recipe's metric on the test split) ``before``, ``pruned`` and after ``fine_tune``.

    Raises:
        InputError: if nothing changes, a ``skip`` name is unknown, or fine-tuning lacks data.
    """
    require_consistent(step, _conflicts(step))
    pruned = copy.deepcopy(module).eval()
    weights, left = selected(pruned, step.skip, "prune-blocks")
    parameters = dict(pruned.named_parameters())
    blocks: dict[str, Blocks] = {}
    for name, weight in list(weights.items()):
        height, _, width = weight.rows(parameters[weight.name]).shape
        blocks[name] = _block_of(height, width, step, context.lanes)
        why = blocks[name].misfit(height, width)
        if why is None and step.block == "auto" and not _large_enough(blocks[name]):
            why = f"{height} outputs and {width} inputs have no block of {_SMALLEST[0]} weights"
        if why is not None:
            left[name] = why
            del weights[name], blocks[name]
    metrics = sparsify(
        module, pruned, (weights, left), masks=_masks(step, blocks), step=step, context=context
    )
    metrics["blocks"] = {name: [block.height, block.width] for name, block in blocks.items()}
    return TorchResult(pruned, metrics)


def _block_of(height: int, width: int, step: PruneBlocks, lanes: int) -> "Blocks":
    """Return the block of a weight; ``auto`` halves the target's until it divides the weight."""
    from edgepack.torchnet.masks import Blocks

    if step.block != "auto":
        return Blocks(*step.block)
    rows, columns = max(lanes, _COLUMNS), _COLUMNS
    while height % rows:
        rows //= 2
    while width % columns:
        columns //= 2
    return Blocks(rows, columns)


def _large_enough(block: "Blocks") -> bool:
    return block.height * block.width >= _SMALLEST[0] and block.width >= _SMALLEST[1]


def _masks(step: PruneBlocks, blocks: "Mapping[str, Blocks]") -> Masks:
    from edgepack.torchnet.masks import kept_units

    def kept(scores: "Mapping[str, torch.Tensor]", share: float) -> "dict[str, torch.Tensor]":
        power = 1 if step.norm == "l1" else 2
        units = {}
        for name, each in scores.items():
            block = blocks[name]
            units[name] = (block.sums(each**power) / (block.height * block.width)) ** (1 / power)
        return {
            name: blocks[name].spread(each)
            for name, each in kept_units(units, share * step.ratio, together=step.scope == "global").items()
        }

    return kept


def _conflicts(step: PruneBlocks) -> tuple[tuple[str, str], ...]:
    if step.schedule == "gradual" and step.fine_tune is None:
        return (("schedule", "schedule gradual prunes while training: add fine_tune"),)
    return ()


METHOD = TorchMethod(
    spec=PruneBlocks,
    apply=apply,
    needs=needs,
    conflicts=_conflicts,
    by_target=lambda step: step.block == "auto",
    leaves=frozenset({"sparse"}),
    destroys=DESTROYS,
    distributions=("torch",),
    sources=(*SOURCES, "compression/prune_blocks.py"),
)
