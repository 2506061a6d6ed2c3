"""Where the buffers of a program lie in its arena: those that are never in use at the same time may share memory.

The largest buffers are placed first, each in the smallest gap that is left in the time in which it is in use (best fit):
Pisarchyk and Lee 2020, arXiv:2001.03288, "greedy by size". While that takes more than the least, one of the buffers that
end highest is placed earlier than before, and the order is kept if it is no worse.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgepack.lower.emit.aot.program import Buffer, KernelCall

ALIGNMENT = 64
"""Of every buffer, in bytes: a line of the cache, and as wide as the widest vectors."""

_ROUNDS = 200


@dataclass(frozen=True)
class Lifetime:
    """A buffer's size in bytes, and the first and last call in which it is in use."""

    size: int
    first: int
    last: int

    def overlaps(self, other: "Lifetime") -> bool:
        """Whether both are in use in some call."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Arena:
    """A plan: the offset of each buffer, the bytes in all, and the least that any plan needs."""

    offsets: Mapping[Buffer, int]
    size: int
    least: int


def arena_of(calls: Sequence[KernelCall]) -> Arena:
    """Place the buffers of a program's own so that those in use at the same time do not overlap."""
    uses: dict[Buffer, list[int]] = {}
    for number, call in enumerate(calls):
        for buffer in call.buffers:
            if buffer.kind in {"arena", "fetched"}:
                uses.setdefault(buffer, []).append(number)
    lifetimes = [Lifetime(_aligned(buffer.size), each[0], each[-1]) for buffer, each in uses.items()]
    offsets = plan(lifetimes)
    return Arena(dict(zip(uses, offsets, strict=True)), end_of(lifetimes, offsets), least(lifetimes))


def plan(buffers: Sequence[Lifetime]) -> list[int]:
    """Return an offset for each buffer."""
    order = sorted(range(len(buffers)), key=lambda each: (-buffers[each].size, buffers[each].first))
    best = _place(buffers, order)
    wanted, choice = least(buffers), random.Random(0)  # noqa: S311 - for a search, always the same
    for _ in range(_ROUNDS):
        end = end_of(buffers, best)
        if end == wanted:
            break
        highest = [each for each in order if best[each] + buffers[each].size == end]
        moved = choice.choice(highest)
        others = [each for each in order if each != moved]
        others.insert(choice.randrange(order.index(moved) + 1), moved)
        tried = _place(buffers, others)
        if end_of(buffers, tried) <= end:
            order, best = others, tried
    return best


def _place(buffers: Sequence[Lifetime], order: Sequence[int]) -> list[int]:
    """Place buffers in this order."""
    offsets = [0] * len(buffers)
    placed: list[int] = []
    for number in order:
        own = buffers[number]
        beside = sorted(
            (offsets[each], offsets[each] + buffers[each].size)
            for each in placed
            if buffers[each].overlaps(own)
        )
        offsets[number] = _best_gap(beside, own.size)
        placed.append(number)
    return offsets


def end_of(buffers: Sequence[Lifetime], offsets: Sequence[int]) -> int:
    """Return the bytes that buffers take at these offsets."""
    return max((offset + each.size for offset, each in zip(offsets, buffers, strict=True)), default=0)


def least(buffers: Sequence[Lifetime]) -> int:
    """Return the bytes that are in use at once at the most: no plan needs fewer."""
    changes: dict[int, int] = {}
    for each in buffers:
        changes[each.first] = changes.get(each.first, 0) + each.size
        changes[each.last + 1] = changes.get(each.last + 1, 0) - each.size
    most = now = 0
    for call in sorted(changes):
        now += changes[call]
        most = max(most, now)
    return most


def _best_gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    """Return the start of the smallest gap between taken places, in order, that is large enough; else what follows them."""
    best: tuple[int, int] | None = None
    end = 0
    for first, last in taken:
        gap = first - end
        if gap >= size and (best is None or gap < best[0]):
            best = gap, end
        end = max(end, last)
    return end if best is None else best[1]


def _aligned(size: int) -> int:
    return -(-max(1, size) // ALIGNMENT) * ALIGNMENT
