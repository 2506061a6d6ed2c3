"""Depth pruning: remove whole blocks of layers, of which the outputs depend least.

A block is removed by passing its input on, which its residual connection does already: such networks behave like
ensembles of shallower ones (Veit et al. 2016, arXiv:1605.06431). The least important block is removed first, and the
others are measured anew (layer-wise as in Elkerdawy et al. 2020, arXiv:2007.00389).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgepack.compression.batches import BATCH, training_feeds
from edgepack.compression.context import Context
from edgepack.compression.method import Need, Step, TorchMethod, TorchResult, one_of, require_consistent
from edgepack.compression.selection import select
from edgepack.errors import InputError
from edgepack.spec import Seed, Train

if TYPE_CHECKING:
    import torch

    from edgepack.torchnet.blocks import RemovableBlock
    from edgepack.torchnet.branches import Branch

    Feed = Mapping[str, Any]

_WHERE = "compress, prune-layers"
_FAILURES = (
    AttributeError,
    RuntimeError,
    TypeError,
    ValueError,
    IndexError,
)  # of a forward() that looks into a block


class PruneLayers(Step):
    """Remove the blocks of layers that matter least, where input and output have the same shape, then fine-tune."""

    method: Literal["prune-layers"]
    count: int | None = Field(
        default=None, ge=1, description="Blocks to remove. Give one of count, ratio and macs."
    )
    ratio: float | None = Field(default=None, gt=0, lt=1, description="Share of the blocks to remove.")
    macs: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Budget: MACs left at most, as a share of those before this step.",
    )
    blocks: tuple[str, ...] = Field(
        default=(),
        description="Modules that may be removed: names, with * and ? as wildcards; by default the residual and other blocks of two and more layers.",
    )
    branches: bool = Field(
        default=False,
        description="Also remove branches of residual blocks that cannot be removed as a whole, so that the shortcut is left.",
    )
    skip: tuple[str, ...] = Field(
        default=(), description="Blocks that stay: names, with * and ? as wildcards."
    )
    samples: int = Field(default=256, ge=1, description="Training samples on which blocks are compared.")
    fine_tune: Train | None = Field(default=None, description="Fine-tune afterwards, on the training split.")
    seed: Seed = Field(default=0, description="Seed for choosing the samples.")


def apply(module: "torch.nn.Module", step: PruneLayers, context: Context) -> TorchResult:
    """Remove blocks from a copy of ``module``, one at a time, and fine-tune it.

    What is compared is the noise that removing a block adds to the outputs on training samples; with ``macs``, for each
    multiply-accumulate that it saves.

    Metrics: ``parameters`` and ``macs`` as ``[before, after]``; ``layers``: each removed block to its parameters
    ``[before, 0]``, in the order of removal; ``sqnr``: for each block, that of the outputs in dB when it alone is removed;
    ``kept_whole``: name to the reason; with data, ``score`` ``before``, ``pruned`` and after ``fine_tune``.

    Raises:
        InputError: not one of ``count``, ``ratio`` and ``macs`` is given; there are too few blocks to remove; a name in
            ``blocks`` or ``skip`` is unknown, or cannot be removed.
    """
    import copy

    from edgepack.torchnet.blocks import removable
    from edgepack.torchnet.branches import branches
    from edgepack.torchnet.layers import count_module, example_inputs

    require_consistent(step, _conflicts(step))
    pruned = copy.deepcopy(module).eval()
    examples = example_inputs(context.inputs)
    found = branches(pruned, examples) if step.branches else {}
    candidates, beside = _candidates(pruned, step, removable(pruned, examples), found)
    before = count_module(pruned, examples)
    feeds = training_feeds(context, step.samples, step.seed, batch=BATCH)
    search = _Search(module, candidates, beside, feeds, context)
    while not search.done(step, before.macs):
        search.remove_least(per_mac=step.macs is not None)
    change = search.change(search.removed)
    pruned = rebuild(pruned, change)
    after = count_module(pruned, examples)
    metrics: dict[str, Any] = {
        "parameters": [before.parameters, after.parameters],
        "macs": [before.macs, after.macs],
        "layers": {name: [candidates[name].parameters, 0] for name in search.removed},
        "sqnr": search.alone,
        "kept_whole": search.failed,
    }
    if context.data is not None:
        metrics["score"] = {"before": context.score(module), "pruned": context.score(pruned)}
    if step.fine_tune is not None:
        context.train(pruned, step.fine_tune)
        metrics["score"]["fine_tune"] = context.score(pruned)
    return TorchResult(pruned, metrics, change)


def rebuild(module: "torch.nn.Module", change: Mapping[str, Any]) -> "torch.nn.Module":
    """Remove the recorded blocks, and branches."""
    from edgepack.torchnet.blocks import Passthrough
    from edgepack.torchnet.branches import without_branch
    from edgepack.torchnet.layers import replace_layer

    for name in change["removed"]:
        module = replace_layer(module, module.get_submodule(name), Passthrough().eval())
    for record in change.get("branches", ()):
        module = without_branch(module, record)
    return module


def _conflicts(step: PruneLayers) -> tuple[tuple[str, str], ...]:
    return one_of(step, "count", "ratio", "macs")


def _needs(step: PruneLayers) -> tuple[Need, ...]:
    needs = [Need("samples", "comparing blocks")]
    if step.fine_tune is not None:
        needs.append(Need("labels", "fine-tuning", "fine_tune"))
    return tuple(needs)


METHOD = TorchMethod(
    spec=PruneLayers,
    apply=apply,
    rebuild=rebuild,
    needs=_needs,
    conflicts=_conflicts,
    distributions=("torch",),
    sources=(
        "compression/batches.py",
        "compression/calibration.py",
        "compression/prune_layers.py",
        "compression/selection.py",
        "compression/sensitivity",
        "torchnet/blocks.py",
        "torchnet/branches.py",
    ),
)


def _candidates(
    module: "torch.nn.Module",
    step: PruneLayers,
    found: "Mapping[str, RemovableBlock]",
    branches: "Mapping[str, Branch]",
) -> "tuple[dict[str, RemovableBlock], dict[str, Branch]]":
    """Return what may be removed: blocks, and the branches outside of them; and which of them are branches."""
    from edgepack.torchnet.blocks import outermost_blocks

    blocks = outermost_blocks(found)
    if step.blocks:
        names = {name: (name,) for name, _ in module.named_modules() if name}
        wanted = select(step.blocks, names, kind="layer", where=f"{_WHERE}, blocks")
        if not found.keys() & set(wanted):
            raise InputError(
                f"{', '.join(wanted[:4])} cannot be removed",
                where=f"{_WHERE}, blocks",
                why="input and output differ in shape, or it has no weights or is not called",
                next=f"removable are {', '.join(list(found)[:8]) or 'no modules'}",
            )
        blocks = {name: found[name] for name in wanted if name in found}
    inside = tuple(f"{name}." for name in blocks)
    beside = {
        name: branch
        for name, branch in branches.items()
        if not any(f"{layer}.".startswith(inside) for layer in branch.layers)
    }
    blocks |= {name: branch.block for name, branch in beside.items()}
    layers: dict[str, tuple[str, ...]] = {
        name: (name, *(beside[name].layers if name in beside else ())) for name in blocks
    }
    for name in dict.fromkeys(select(step.skip, layers, kind="block", where=f"{_WHERE}, skip")):
        del blocks[name]
    if not blocks:
        raise InputError(
            f"{type(module).__name__} has no block that can be removed",
            where=_WHERE,
            why="a block has two or more layers with weights, and an output of its input's shape",
            next=f"name modules in `blocks`: removable are {', '.join(list(found)[:8])}"
            if found
            else "remove this step",
        )
    return blocks, {name: branch for name, branch in beside.items() if name in blocks}


class _Search:
    """Removes blocks one by one, the least important first."""

    def __init__(
        self,
        module: "torch.nn.Module",
        candidates: "Mapping[str, RemovableBlock]",
        branches: "Mapping[str, Branch]",
        feeds: "Sequence[Feed]",
        context: Context,
    ) -> None:
        from edgepack.compression.sensitivity.torch_level import outputs_of

        self._module, self._feeds, self._context = module, feeds, context
        self._left = dict(candidates)
        self._branches = branches
        self._all = dict(candidates)
        self._reference = outputs_of(module.eval(), feeds)
        self.removed: list[str] = []
        self.alone: dict[str, float] = {}
        self.failed: dict[str, str] = {}

    def change(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the record of removed blocks and branches."""
        records = [self._branches[name].record for name in names if name in self._branches]
        removed = [name for name in names if name not in self._branches]
        return {"removed": removed, **({"branches": records} if records else {})}

    def done(self, step: PruneLayers, macs: int) -> bool:
        """Whether enough is removed.

        Raises:
            InputError: it is not, and nothing else can be removed.
        """
        saved = sum(self._all[name].macs for name in self.removed)
        wanted = step.count if step.ratio is None else max(1, round(step.ratio * len(self._all)))
        enough = len(self.removed) >= (wanted or 0) if step.macs is None else macs - saved <= step.macs * macs
        if not enough and not self._left:
            raise InputError(
                f"the blocks that can be removed are too few: {', '.join(self._all)}",
                where=_WHERE,
                why=f"without all of them {1 - saved / macs:.0%} of the MACs are left" if macs else None,
                next="remove fewer, or prune channels as well",
            )
        return enough

    def remove_least(self, *, per_mac: bool) -> None:
        """Remove the block that matters least to the outputs, on top of those removed so far."""
        from edgepack.compression.sensitivity.scan import sqnr
        from edgepack.compression.sensitivity.torch_level import outputs_of

        costs: dict[str, float] = {}
        for name in list(self._left):
            try:
                thinner = self._without((*self.removed, name))
                ratio = sqnr(self._reference, outputs_of(thinner, self._feeds))
            except _FAILURES as error:
                self.failed[name] = (
                    f"the model does not run without it: {str(error).strip().partition(chr(10))[0]}"
                )
                del self._left[name]
                continue
            noise = 10 ** (-ratio / 10)
            costs[name] = noise / max(self._left[name].macs, 1) if per_mac else noise
            if not self.removed:
                self.alone[name] = round(ratio, 2)
            self._context.progress(f"without {name}: {ratio:.1f} dB", None)
        if costs:
            least = min(costs, key=costs.__getitem__)
            self.removed.append(least)
            inside = [name for name in self._left if name == least or name.startswith(f"{least}.")]
            for name in inside:
                del self._left[name]

    def _without(self, names: Sequence[str]) -> "torch.nn.Module":
        import copy

        return rebuild(copy.deepcopy(self._module), self.change(names)).eval()
