"""Unstructured pruning: single weights become zero, or all but N of every M (Mishra et al. 2021, arXiv:2104.08378).

A model with zeros is not faster in kernels for dense weights; it is smaller in the bundle (docs/compression-pruning.md).
"""

import copy
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from edgepack.compression.method import Context, Need, Step, TorchMethod, TorchResult, require_consistent
from edgepack.compression.selection import Skip
from edgepack.compression.sparsify import (
    Criterion,
    Masks,
    Schedule,
    Sparsifying,
    leave_sensitive,
    metrics_of,
    selected,
)
from edgepack.spec import Train
from edgepack.torchnet.masks import Scope, kept_of_each, kept_units

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch


Size = Annotated[int, Field(ge=1, le=64)]


class PruneWeights(Step):
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
    scope: Scope = Field(
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


def apply(module: "torch.nn.Module", step: PruneWeights, context: Context) -> TorchResult:
    """Prune a copy of ``module``, and train what is left of it.

    Metrics: ``sparsity`` of all weights that may be pruned, and ``layers``: name to share of zeros, both ``[before,
    after]``; ``kept_whole``: name to the reason why a weight was left alone; ``accuracy`` (the recipe's metric on the test
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
    leave_sensitive(pruned, step.skip, weights, left, masks=_masks(step), context=context)
    before = {name: parameters[weight.name].detach().clone() for name, weight in weights.items()}
    how = Sparsifying(weights, _masks(step), step.criterion, step.schedule, step.fine_tune)
    score = context.score(module)
    scores = {} if score is None else {"before": score}
    if weights:
        scores |= how.run(pruned, context)
    after = {name: parameters[weight.name].detach() for name, weight in weights.items()}
    return TorchResult(pruned.eval(), metrics_of(before, after, left, scores, "prune-weights"))


def _masks(step: PruneWeights) -> Masks:
    def kept(scores: "Mapping[str, torch.Tensor]", share: float) -> "dict[str, torch.Tensor]":
        if step.pattern is None:
            return kept_units(scores, share * (step.ratio or 0.0), step.scope)
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


def _needs(step: PruneWeights) -> tuple[Need, ...]:
    trained = (Need("labels", "fine-tuning", "fine_tune"),) if step.fine_tune is not None else ()
    return (
        trained
        if isinstance(step.skip, tuple)
        else (*trained, Need("samples", "measuring sensitivity", "skip"))
    )


METHOD = TorchMethod(
    spec=PruneWeights,
    apply=apply,
    needs=_needs,
    conflicts=_conflicts,
    leaves=frozenset({"sparse"}),
    destroys={
        "encoded": "its layers store codes in place of the weights that would become zero",
        "fake-quantized": "its layers have learned their scales with all weights; prune before quantizing",
    },
    distributions=("torch",),
    sources=(
        "compression/batches.py",
        "compression/prune_weights.py",
        "compression/selection.py",
        "compression/sensitivity",
        "compression/sparsify.py",
        "torchnet/masks.py",
        "torchnet/sparsity.py",
    ),
)
