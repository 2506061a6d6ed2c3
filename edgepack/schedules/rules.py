"""Kernel rules of CPU targets in one ordered table: pattern x instruction set, each with a cost estimate.

A kernel is split into blocks (``fallback``). Of the rules whose pattern matches a block and whose instructions are
supported by the CPU, the one with the lowest estimated cost schedules it; ties go to the first. To add a rule, write
its functions and add a line to ``RULES``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgepack.schedules import contraction, simple
from edgepack.schedules.kernel import Block, conditional, element_bytes
from edgepack.schedules.tiles import FMA_LATENCY, GATHER, LOAD_COST, PIPES, Machine


@dataclass(frozen=True)
class Surroundings:
    """The context of a block in its kernel.

    Attributes:
        free: buffers whose layout may be chosen at compile time.
        epilogue: the block's only consumer, injective, and its axis mapping.
        padding: the producer that pads the block's data, if it has no other consumer.
    """

    free: tuple[Any, ...] = ()
    epilogue: tuple[str, dict[int, int]] | None = None
    padding: Block | None = None


@dataclass(frozen=True)
class Cost:
    """Estimated cost of a rule for a block: cycles of one core for all outputs, and the plan for ``apply``."""

    cycles: float
    plan: Any = None


@dataclass(frozen=True)
class KernelRule:
    """One way to schedule a block.

    Attributes:
        name: used in messages and tests.
        fits: whether the pattern matches a block.
        features: required instruction sets, as in ``cpu.features`` of targets; empty for every CPU.
        cost: the estimate; None if the rule cannot schedule the block.
        apply: schedules the block; returns the names of other blocks scheduled with it.
    """

    name: str
    fits: Callable[[Block], bool]
    features: frozenset[str]
    cost: Callable[[Block, Machine, Surroundings], Cost | None]
    apply: Callable[[Any, Block, Machine, Surroundings, Cost], frozenset[str]]


ANY_CPU: frozenset[str] = frozenset()


def _reduces(block: Block) -> bool:
    return bool(block.reduced)


def _pads(block: Block) -> bool:
    return not block.reduced and conditional(block)


def _maps(block: Block) -> bool:
    return not block.reduced and not conditional(block)


def _outputs(block: Block) -> int:
    count = block.work
    for axis in block.reduced:
        count //= axis.extent
    return count


def _contraction_cost(block: Block, cpu: Machine, around: Surroundings) -> Cost | None:
    chosen = contraction.plan(block, cpu, list(around.free))
    return None if chosen is None else Cost(chosen.tile.cycles * _outputs(block), chosen)


def _contract(sch: Any, block: Block, cpu: Machine, around: Surroundings, cost: Cost) -> frozenset[str]:
    moved = contraction.schedule(
        sch, block, cost.plan, cpu=cpu, epilogue=around.epilogue, padding=around.padding
    )
    taken = {around.epilogue[0]} if around.epilogue else set()
    if around.padding is not None and moved:
        taken.add(around.padding.name)
    return frozenset(taken)


def _reduction_cost(block: Block, _cpu: Machine, _around: Surroundings) -> Cost:
    """Scalar code: each step gathers its operands, and waits for an addition."""
    loads = GATHER * len(block.loads)
    step = max(loads / PIPES, FMA_LATENCY / simple.interleaved(block)) + loads * LOAD_COST
    return Cost(block.work * step + GATHER * _outputs(block))


def _reduce(sch: Any, block: Block, _cpu: Machine, _around: Surroundings, _cost: Cost) -> frozenset[str]:
    simple.reduction(sch, block)
    return frozenset()


def _map_cost(block: Block, cpu: Machine, _around: Surroundings) -> Cost:
    """Vector code: one load per operand and one store."""
    return Cost(block.work / cpu.lanes(element_bytes(block.output)) * (len(block.loads) + 1) / PIPES)


def _pad(sch: Any, block: Block, cpu: Machine, _around: Surroundings, _cost: Cost) -> frozenset[str]:
    simple.pad(sch, block, cpu, None)
    return frozenset()


def _map(sch: Any, block: Block, cpu: Machine, _around: Surroundings, _cost: Cost) -> frozenset[str]:
    simple.elementwise(sch, block, cpu)
    return frozenset()


RULES: tuple[KernelRule, ...] = (
    # Convolutions, matrix products, windows: a register tile along the weights or the data.
    KernelRule("contraction", _reduces, ANY_CPU, _contraction_cost, _contract),
    # Reductions that no tile fits: a few outputs interleaved.
    KernelRule("reduction", _reduces, ANY_CPU, _reduction_cost, _reduce),
    # Padding: filled, then the interior copied without conditions.
    KernelRule("padding", _pads, ANY_CPU, _map_cost, _pad),
    # Element-wise: the innermost dimension vectorised.
    KernelRule("elementwise", _maps, ANY_CPU, _map_cost, _map),
)


def choose(
    rules: tuple[KernelRule, ...], block: Block, cpu: Machine, around: Surroundings
) -> tuple[KernelRule, Cost] | None:
    """Return the matching rule with the lowest cost, and its cost; None if no rule matches."""
    fitting = [rule for rule in rules if rule.features <= cpu.features and rule.fits(block)]
    costs = [(rule, cost) for rule in fitting if (cost := rule.cost(block, cpu, around)) is not None]
    return min(costs, key=lambda each: each[1].cycles, default=None)
