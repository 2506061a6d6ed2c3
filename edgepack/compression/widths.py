"""How many channels of each group are kept: by a ratio, per layer or over all of them, or within a budget.

Budgets are met by bisection over the ratio, so that the model is pruned by no more than its budget asks for.
"""

import math
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgepack.errors import InputError

if TYPE_CHECKING:
    from edgepack.torchnet.channels.table import ChannelGroup

Scope = Literal["layer", "global"]

_LEAST = 0.1  # share of its channels that a group keeps when all groups compete: a layer must not vanish
_ROUNDING = 1e-6  # channels
_HALVINGS = 40  # of the interval of ratios


@dataclass(frozen=True)
class Prunable:
    """A group of channels that can be pruned.

    Attributes:
        group: its sets of channels.
        scores: the importance of each member.
        full: its members before the first iteration.
        multiple: the number of members kept is a multiple of this.
    """

    group: "ChannelGroup"
    scores: Sequence[float]
    full: int
    multiple: int

    def rounded(self, keep: float) -> int:
        """Round a number of members to keep, at least one multiple and at most all."""
        whole = max(self.multiple, round(keep / self.multiple) * self.multiple)
        return min(whole, len(self.group.members))

    def least(self, keep: int) -> set[int]:
        """Return all members but the ``keep`` most important ones; of equal ones the first are kept."""
        size = len(self.group.members)
        order = sorted(range(size), key=lambda i: (self.scores[i], -i))
        return {self.group.members[i] for i in order[: size - keep]}

    @property
    def channels(self) -> int:
        """Channels per member, over all layers."""
        return sum(self.group.multiplicity.values())


def multiple_of(group: "ChannelGroup", full: int, round_to: int, *, shrink: bool) -> int:
    """Return how many members make a multiple of ``round_to`` channels in every layer of the group.

    Args:
        group: the group.
        full: its members before pruning.
        round_to: channels.
        shrink: halve ``round_to`` until at least two multiples fit into the narrowest layer of the group.
    """
    if shrink:
        narrowest = min(full * n for n in group.multiplicity.values())
        while round_to > 1 and 2 * round_to > narrowest:
            round_to //= 2
    # With n channels per member, keeping a multiple of this many members keeps a multiple of round_to channels.
    return math.lcm(*(round_to // math.gcd(round_to, n) for n in group.multiplicity.values()))


def remove_share(prunable: Sequence[Prunable], ratio: float, scope: Scope) -> set[int]:
    """Return the members to remove so that ``ratio`` of the channels before the first iteration are gone."""
    if scope == "layer":
        keep = [each.full * (1 - ratio) for each in prunable]
    else:
        keep = _kept_of_all(prunable, ratio)
    return {
        root for each, count in zip(prunable, keep, strict=True) for root in each.least(each.rounded(count))
    }


def _kept_of_all(prunable: Sequence[Prunable], ratio: float) -> list[float]:
    """Remove the least important members of all groups together, and return how many of each group are left."""
    keep = [len(each.group.members) for each in prunable]
    gone = sum((each.full - kept) * each.channels for each, kept in zip(prunable, keep, strict=True))
    wanted = ratio * sum(each.full * each.channels for each in prunable) - _ROUNDING
    ranked = sorted(
        (score, i, -member) for i, each in enumerate(prunable) for member, score in enumerate(each.scores)
    )
    for _score, i, _member in ranked:
        if gone >= wanted:
            break
        if keep[i] - 1 >= _LEAST * prunable[i].full:
            keep[i] -= 1
            gone += prunable[i].channels
    return [float(count) for count in keep]


def remove_within(
    prunable: Sequence[Prunable],
    scope: Scope,
    cost: Callable[[AbstractSet[int]], float],
    budget: float,
    *,
    what: str,
) -> set[int]:
    """Return the members to remove with the smallest ratio for which ``cost`` is within ``budget``.

    Args:
        prunable: the groups, with their scores.
        scope: whether the groups compete.
        cost: the cost without the given members.
        budget: the largest allowed cost.
        what: the option with the budget, for the message.

    Raises:
        InputError: if the cost is above the budget even with the largest ratio.
    """
    low, high = 0.0, 1.0
    best = remove_share(prunable, high, scope)
    if cost(best) > budget:
        share = cost(best) / cost(set())
        raise InputError(
            f"the budget cannot be met: at least {share:.3f} of what there is now is left",
            where=f"compress, prune-channels, {what}",
            why="the rest belongs to layers that are skipped, cannot be pruned, or are rounded up",
            next=f"raise {what}, lower round_to, or skip fewer layers",
        )
    if cost(set()) <= budget:
        return set()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = remove_share(prunable, middle, scope)
        if cost(found) <= budget:
            high, best = middle, found
        else:
            low = middle
    # Many groups lose channels at the same ratio, as widths are rounded: not all of them need to.
    above = remove_share(prunable, low, scope)
    for each in prunable:
        needless = best.intersection(each.group.members) - above
        if needless and cost(best - needless) <= budget:
            best -= needless
    return best
