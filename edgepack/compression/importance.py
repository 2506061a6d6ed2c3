"""Importance of channels: one score per member of a group of channels.

A channel's importance is the norm of its filter (L1: Li et al. 2017, arXiv:1608.08710; L2: He et al.
2018, arXiv:1808.06866) or the scale of its batch normalisation (Liu et al. 2017, arXiv:1708.06519).
"""

from typing import Literal

from edgepack.errors import InputError
from edgepack.torchnet.channels import ChannelGraph, ChannelGroup

Criterion = Literal["l1", "l2", "bn"]


def importance(graph: ChannelGraph, group: ChannelGroup, criterion: Criterion) -> list[float]:
    """Return one score per member: each layer's scores divided by their mean in the group, summed over layers.

    Raises:
        InputError: for criterion ``bn`` where no batch normalisation scales the group's channels.
    """
    position = {root: i for i, root in enumerate(group.members)}
    scores = [0.0] * len(group.members)
    scored = False
    for name, numbers in graph.outputs.items():
        values = _scores(graph, name, criterion)
        mine = [
            (position[root], value)
            for root, value in zip(map(graph.sets.root, numbers), values, strict=False)
            if root in position
        ]
        if not mine:
            continue
        scored = True
        mean = sum(value for _, value in mine) / len(mine)
        for i, value in mine:
            scores[i] += value / mean if mean > 0 else 0.0
    if not scored:
        raise InputError(
            f"criterion bn: no batch normalisation scales the channels of {', '.join(group.multiplicity)}",
            where="compress, prune-channels, criterion",
            next="use criterion l1 or l2, or skip these layers",
        )
    return scores


def _scores(graph: ChannelGraph, name: str, criterion: Criterion) -> list[float]:
    """Return one score per output channel of the layer; empty if the criterion does not apply to it."""
    layer = graph.layers[name]
    is_norm = name not in graph.inputs
    if is_norm != (criterion == "bn") or layer.weight is None:
        return []
    weight = layer.weight.detach().flatten(1) if not is_norm else layer.weight.detach()[:, None]
    return [float(value) for value in weight.norm(p=2 if criterion == "l2" else 1, dim=1)]
