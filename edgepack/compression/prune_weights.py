"""Unstructured pruning: single weights become zero, or all but N of every M (Mishra et al. 2021, arXiv:2104.08378).

A model with zeros is not faster in kernels for dense weights; it is smaller in the bundle (docs/compression-pruning.md).
"""

import copy
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from edgepack.compression.method import Context, TorchMethod, TorchResult, require_consistent
from edgepack.compression.sparsify import (
    DESTROYS,
    SOURCES,
    Criterion,
    Masks,
    SparseStep,
    needs,
    selected,
    sparsify,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch


Size = Annotated[int, Field(ge=1, le=64)]


class PruneWeights(SparseStep):
    """Set the least important weights to zero: a share of them, or all but N of every M."""

    method: Literal["prune-weights"]
    ratio: float | None = Field(
        default=None, gt=0, lt=1, description="Share of the weights that become zero. Give ratio or pattern."
    )
    pattern: tuple[Size, Size] | None = Field(
        default=None, description="Keep N of every M weights along the inputs: [N, M], e.g. [2, 4]."
    )
    criterion: Criterion = Field(
        default="magnitude",
        description="Prune the smallest weights, or those that move towards zero in training.",
    )


def apply(module: "torch.nn.Module", step: PruneWeights, context: Context) -> TorchResult:
    """Prune a copy of ``module``, and train what is left of it.

    Metrics: ``sparsity`` of all weights that may be pruned, and ``layers``: name to share of zeros, both ``[before,
    after]``; ``kept_whole``: name to the reason why a weight was left alone; ``score`` (the recipe's metric on the test
    split) ``before``, ``pruned`` and after ``fine_tune``.

    Raises:
        InputError: if nothing changes, a ``skip`` name is unknown, or fine-tuning lacks data.
    """
    require_consistent(step, _conflicts(step))
    pruned = copy.deepcopy(module).eval()
    weights, left = selected(pruned, step.skip, "prune-weights")
    parameters = dict(pruned.named_parameters())
    if step.pattern is not None:
        _, m = step.pattern
        for name, weight in list(weights.items()):
            columns = weight.rows(parameters[weight.name]).shape[2]
            if columns % m:
                left[name] = f"{columns} inputs are no multiple of {m}"
                del weights[name]
    metrics = sparsify(
        module,
        pruned,
        (weights, left),
        masks=_masks(step),
        step=step,
        context=context,
        criterion=step.criterion,
    )
    return TorchResult(pruned, metrics)


def _masks(step: PruneWeights) -> Masks:
    from edgepack.torchnet.masks import kept_of_each, kept_units

    def kept(scores: "Mapping[str, torch.Tensor]", share: float) -> "dict[str, torch.Tensor]":
        if step.pattern is None:
            return kept_units(scores, share * (step.ratio or 0.0), together=step.scope == "global")
        n, m = step.pattern
        keep = m - round(share * (m - n))
        return {name: kept_of_each(each, keep, m) for name, each in scores.items()}

    return kept


def _conflicts(step: PruneWeights) -> tuple[tuple[str, str], ...]:
    """Options that contradict each other."""
    found = []
    if (step.ratio is None) == (step.pattern is None):
        got = "" if step.ratio is None else ", not both"
        found.append(("method" if step.ratio is None else "pattern", f"expected ratio or pattern{got}"))
    if step.pattern is not None:
        n, m = step.pattern
        if n >= m:
            found.append(("pattern", f"expected N below M, got {n} of {m}"))
        if step.scope == "global":
            found.append(("scope", "a pattern holds in each layer: remove scope"))
    for key, value in (("criterion", "movement"), ("schedule", "gradual")):
        if getattr(step, key) == value and step.fine_tune is None:
            found.append((key, f"{key} {value} prunes while training: add fine_tune"))
    return tuple(found)


METHOD = TorchMethod(
    spec=PruneWeights,
    apply=apply,
    needs=needs,
    conflicts=_conflicts,
    leaves=frozenset({"sparse"}),
    destroys=DESTROYS,
    distributions=("torch",),
    sources=(*SOURCES, "compression/prune_weights.py"),
)
