"""The fallback schedule of CPU targets: every kernel nobody tuned gets tiles, vectors and threads.

A kernel is taken apart into stages: producers that can be computed where they are used are inlined, a chain of
injective blocks behind a reduction becomes its epilogue, and each remaining stage is scheduled by the first of
``contraction``, ``simple.reduction`` and ``simple.elementwise`` that fits. All of it goes through TVM's schedule
primitives, which check that the result computes what the kernel computed.
"""

from typing import Any

from edgepack.schedules import contraction, simple
from edgepack.schedules.kernel import Block, conditional, expensive, follows, read_block
from edgepack.schedules.tiles import Machine, machine
from edgepack.target import Target


def cpu_pass(target: Target) -> Any:
    """A module pass that schedules all functions without a schedule."""
    import tvm
    from tvm import tirx

    cpu = machine(target)

    @tvm.transform.module_pass(opt_level=0, name="ScheduleUntuned")
    def run(mod: Any, _context: Any) -> Any:
        scheduled = {}
        for name, function in mod.functions.items():
            if isinstance(function, tirx.PrimFunc) and not (
                function.attrs and function.attrs.get("tirx.is_scheduled")
            ):
                scheduled[name] = schedule_function(function, cpu)
        for name, function in scheduled.items():
            mod.update_func(name, function)
        return mod

    return run


def schedule_function(function: Any, cpu: Machine) -> Any:
    """Schedule one kernel; a function that is not made of plain blocks is returned as it is."""
    import tvm
    from tvm import s_tir, tirx

    if not isinstance(function.body, s_tir.SBlockRealize):
        return function
    sch = s_tir.Schedule(tvm.IRModule({"main": function}), debug_mask="none")
    free = [function.params[int(i)] for i in (function.attrs or {}).get("layout_free_buffers", [])]
    _inline(sch)
    done: set[str] = set()
    for block in _blocks(sch):
        if block.name in done:
            continue
        done.add(block.name)
        if not block.reduced:
            simple.elementwise(sch, block, cpu)
            continue
        epilogue = _epilogue(sch, block)
        chosen = contraction.plan(block, cpu, free)
        if chosen is None:
            simple.reduction(sch, block, cpu)
            continue
        if epilogue:
            done.add(epilogue[0])
        contraction.schedule(sch, block, chosen, epilogue)
    return sch.mod["main"].with_attr("tirx.is_scheduled", True)


def _blocks(sch: Any) -> list[Block]:
    found = [read_block(sch, block) for block in sch.get_child_blocks(sch.get_sblock("root"))]
    return [block for block in found if block is not None]


def _inline(sch: Any) -> None:
    """Inline what costs nothing to compute again: all injective blocks but padding and expensive functions."""
    for rv in sch.get_child_blocks(sch.get_sblock("root")):
        block = read_block(sch, rv)
        consumers = sch.get_consumers(rv)
        if block is None or block.reduced or not consumers:
            continue
        feeds_reduction = any(_is_reduction(sch, consumer) for consumer in consumers)
        if feeds_reduction and (conditional(block) or expensive(block)):
            continue
        if len(consumers) > 1 and expensive(block):
            continue
        try:
            sch.compute_inline(rv)
        except Exception:
            pass


def _is_reduction(sch: Any, rv: Any) -> bool:
    block = read_block(sch, rv)
    return block is None or bool(block.reduced)


def _epilogue(sch: Any, block: Block) -> tuple[str, dict[int, int]] | None:
    consumers = sch.get_consumers(sch.get_sblock(block.name))
    if len(consumers) != 1:
        return None
    consumer = read_block(sch, consumers[0])
    if consumer is None:
        return None
    axes = follows(consumer, block)
    return (consumer.name, axes) if axes is not None else None
