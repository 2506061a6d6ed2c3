"""Scores of sets of channels, from scores of channels of single layers."""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from edgepack.errors import InputError

if TYPE_CHECKING:
    from edgepack.torchnet.channels.table import ChannelGroup, ChannelTable

Criterion = Literal["l1", "l2", "bn", "taylor", "activation", "random"]

LayerScores = Mapping[str, Sequence[float]]
"""One score per output channel, by layer."""


def random_importance(group: "ChannelGroup", seed: int) -> list[float]:
    """Return one random score per member, which depends on the seed and the layers' names only."""
    generator = random.Random(f"{seed} {sorted(group.multiplicity)}")  # noqa: S311 - no secret
    return [generator.random() for _ in group.members]


def combine(
    table: "ChannelTable", group: "ChannelGroup", by_layer: LayerScores, *, relative: bool
) -> list[float] | None:
    """Return one score per member: the mean over the layers that have one; None if none of them has.

    ``relative`` divides each layer's scores by their mean in the group first, so that layers with larger weights do not
    outvote the others.
    """
    position = {root: i for i, root in enumerate(group.members)}
    scores = [0.0] * len(group.members)
    layers = 0
    for name, values in by_layer.items():
        numbers = map(table.sets.root, table.outputs[name])
        mine = [
            (position[root], value) for root, value in zip(numbers, values, strict=True) if root in position
        ]
        if not mine:
            continue
        layers += 1
        mean = sum(value for _, value in mine) / len(mine) if relative else 1.0
        for i, value in mine:
            scores[i] += value / mean if mean > 0 else 0.0
    return [score / layers for score in scores] if layers else None


def average_by_set(table: "ChannelTable", by_reader: LayerScores) -> dict[int, float]:
    """Return the mean over readers of each set's values, which are first divided by the reader's mean."""
    total: dict[int, float] = defaultdict(float)
    count: dict[int, int] = defaultdict(int)
    for name, values in by_reader.items():
        mean = sum(values) / max(1, len(values)) or 1.0
        for number, value in zip(table.inputs[name], values, strict=True):
            root = table.sets.root(number)
            total[root] += value / mean
            count[root] += 1
    return {root: total[root] / count[root] for root in total}


def require_scores(scores: list[float] | None, group: "ChannelGroup", criterion: str) -> list[float]:
    """Refuse a criterion that does not apply to a group.

    Raises:
        InputError: naming the group's layers.
    """
    if scores is not None:
        return scores
    none = "no batch normalisation scales" if criterion == "bn" else "nothing measures"
    raise InputError(
        f"criterion {criterion}: {none} the channels of {', '.join(group.multiplicity)}",
        where="compress, prune-channels, criterion",
        next="use criterion l1 or l2, or skip these layers",
    )
