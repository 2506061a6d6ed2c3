"""The fallback schedule of CPU targets: tiling, vectorisation and threads for untuned kernels.

A kernel is split into blocks: producers that can be computed at their use are inlined, a chain of
injective blocks after a reduction becomes its epilogue, and each remaining block is scheduled by the cheapest
matching rule of ``rules``. All transformations are TVM schedule primitives, which check that the result is equivalent
to the original kernel.
"""

import logging
from typing import Any

from edgepack.config.target import Target
from edgepack.schedules.kernel import Block, conditional, divides, expensive, follows, is_plain, read_block
from edgepack.schedules.recurrent.kernel import schedule_recurrent
from edgepack.schedules.recurrent.loops import Vectors
from edgepack.schedules.rules import RULES, KernelRule, Surroundings, choose
from edgepack.schedules.tiles import Machine, machine

_log = logging.getLogger(__name__)


def cpu_pass(target: Target, rules: tuple[KernelRule, ...] = RULES) -> Any:
    """Return a module pass that schedules all unscheduled functions."""
    import tvm
    from tvm import tirx

    cpu = machine(target)

    @tvm.transform.module_pass(opt_level=0, name="ScheduleUntuned")  # type: ignore[untyped-decorator]  # TVM is untyped
    def run(mod: Any, _context: Any) -> Any:
        scheduled = {}
        for name, function in mod.functions.items():
            if isinstance(function, tirx.PrimFunc) and not (
                function.attrs and function.attrs.get("tirx.is_scheduled")
            ):
                scheduled[name] = schedule_function(function, cpu, rules)
        for name, function in scheduled.items():
            mod.update_func(name, function)
        return mod

    return run


def schedule_function(function: Any, cpu: Machine, rules: tuple[KernelRule, ...] = RULES) -> Any:
    """Schedule one kernel; a kernel in another form than te.compute's keeps the loops TVM gave it."""
    import tvm
    from tvm import s_tir

    recurrent = schedule_recurrent(function, Vectors(cpu.lanes(4)))
    if recurrent is not None:
        return recurrent
    if not is_plain(function):
        return function
    sch = s_tir.Schedule(tvm.IRModule({"main": function}), debug_mask="none")
    constants = [function.params[int(i)] for i in (function.attrs or {}).get("layout_free_buffers", [])]
    try:
        _schedule(sch, cpu, tuple(buffer for buffer in constants if _readers(sch, buffer) == 1), rules)
    except s_tir.ScheduleError as error:
        # An unexpected kernel is slow, but does not fail the build.
        _log.warning("a kernel gets no schedule: %s", str(error).strip().splitlines()[-1])
        return function
    return sch.mod["main"].with_attr("tirx.is_scheduled", True)


def _schedule(sch: Any, cpu: Machine, free: tuple[Any, ...], rules: tuple[KernelRule, ...]) -> None:
    """Schedule every block, reductions first, together with their epilogues and padding."""
    _inline(sch)
    left = {block.name: block for block in _blocks(sch)}
    for block in sorted(left.values(), key=lambda block: not block.reduced):
        if block.name not in left:
            continue
        del left[block.name]
        around = (
            Surroundings(free, epilogue(sch, block), _padding(sch, block))
            if block.reduced
            else Surroundings()
        )
        chosen = choose(rules, block, cpu, around)
        if chosen is not None:
            rule, cost = chosen
            for name in rule.apply(sch, block, cpu, around, cost):
                left.pop(name, None)


def _blocks(sch: Any) -> list[Block]:
    blocks = [read_block(sch, block) for block in sch.get_child_blocks(sch.get_sblock("root"))]
    return [block for block in blocks if block is not None]


def _readers(sch: Any, buffer: Any) -> int:
    blocks = [sch.get(rv) for rv in sch.get_child_blocks(sch.get_sblock("root"))]
    return sum(region.source.same_as(buffer) for block in blocks for region in block.reads)


def _inline(sch: Any) -> None:
    """Inline blocks that are cheap to recompute: all injective blocks except padding, expensive functions, nested divisions."""
    outputs = [sch.get(rv).name_hint for rv in sch.get_output_blocks(sch.get_sblock("root"))]
    for rv in sch.get_child_blocks(sch.get_sblock("root")):
        block = read_block(sch, rv)
        if block is None or block.reduced or block.name in outputs:
            continue
        consumers = [read_block(sch, consumer) for consumer in sch.get_consumers(rv)]
        feeds_reduction = any(consumer is None or consumer.reduced for consumer in consumers)
        if feeds_reduction and conditional(block):
            continue
        if expensive(block) and (feeds_reduction or len(consumers) > 1):
            continue
        if divides(block) and any(consumer is None or divides(consumer) for consumer in consumers):
            continue
        sch.compute_inline(rv)


def epilogue(sch: Any, block: Block) -> tuple[str, dict[int, int]] | None:
    """Return the block's only consumer and its axis mapping, if it can be computed tile by tile."""
    consumers = [read_block(sch, consumer) for consumer in sch.get_consumers(sch.get_sblock(block.name))]
    if len(consumers) != 1 or consumers[0] is None:
        return None
    axes = follows(consumers[0], block)
    return (consumers[0].name, axes) if axes is not None else None


def _padding(sch: Any, block: Block) -> Block | None:
    """Return the producer that pads the block's data, if it has no other consumer."""
    for rv in sch.get_producers(sch.get_sblock(block.name)):
        producer = read_block(sch, rv)
        if producer and not producer.reduced and conditional(producer) and len(sch.get_consumers(rv)) == 1:
            return producer
    return None
