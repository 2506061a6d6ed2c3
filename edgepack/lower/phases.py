"""The lowering as an explicit list of phases per target and executor; the module can be dumped after each phase.

``phases_for`` returns the list, grouped by level; ``run`` executes it under TVM's target and pass contexts, dumps the
module after each phase on request, and records facts at the marks.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from edgepack.config.target import Target
from edgepack.errors import EdgepackError
from edgepack.lower import facts, tracing
from edgepack.lower.conditions import DECODED, FUSED, INFERENCE, LEGAL, SCHEDULED, STATIC, kernels
from edgepack.lower.emit import vm
from edgepack.lower.emit.aot import executor as aot
from edgepack.lower.graph.constants import decode_in_kernels
from edgepack.lower.graph.folding import fold
from edgepack.lower.graph.indices import BOUNDED, bound_indices
from edgepack.lower.graph.legalize import legalizations
from edgepack.lower.graph.lifting import lift_weights
from edgepack.lower.graph.packing import pack_constants
from edgepack.lower.graph.prefix import reduce_scans
from edgepack.lower.onnx.frontend import run_import
from edgepack.lower.phase import Executor, Lowering, Mark, Module, Phase, checking, sequence, verify
from edgepack.schedules import FAMILIES
from edgepack.schedules.kernel import is_plain

Item = Phase | Mark

IMPORT = "import"  # the first phase, which takes no module
SEQUENCE = vm.SEQUENCE.name  # the phase after which executors differ
KERNELS = "kernels"  # the mark at which the kernels are as tuning sees them


EXECUTORS: dict[str, Executor] = {"aot": aot.EXECUTOR, "vm": vm.EXECUTOR}
"""Executors by their name in manifests."""


def executors_for(target: Target) -> tuple[Executor, ...]:
    """Return the executors for this target, the best one first; each takes what those before it do not."""
    return (EXECUTORS["vm"],) if target.gpu else (EXECUTORS["aot"], EXECUTORS["vm"])


def _canonical() -> Sequence[Any]:
    from tvm.relax import transform

    return (
        transform.DecomposeOpsForInference(),
        transform.CanonicalizeBindings(),
        transform.EliminateCommonSubexpr(),
        transform.DeadCodeElimination(),
    )


def _simplify(mod: Module, lowering: Lowering) -> Module:
    from tvm.relax import transform

    mod = fold(transform.FoldBatchnormToConv2D()(mod), lowering)
    return transform.DeadCodeElimination()(transform.EliminateCommonSubexpr()(mod))


def _operators_to_kernels() -> Sequence[Any]:
    from tvm import relax

    return (
        relax.backend.DispatchSampling(),
        relax.backend.DispatchSortScan(),
        relax.transform.LegalizeOps(legalizations()),
    )


def _legalize(mod: Module, lowering: Lowering) -> Module:
    return fold(sequence(_operators_to_kernels)(reduce_scans(mod, lowering), lowering), lowering)


def _annotate_patterns() -> Sequence[Any]:
    from tvm.relax import transform

    return (transform.AnnotateTIROpPattern(),)


def _fuse_tir() -> Sequence[Any]:
    from tvm.relax import transform

    return (transform.FuseTIR(),)


def _free_weight_layouts() -> Sequence[Any]:
    from tvm.relax import transform

    return (transform.AttachAttrLayoutFreeBuffers(),)


def _apply_records(mod: Module, lowering: Lowering) -> Module:
    from tvm import relax

    if lowering.database is None:
        return mod
    with lowering.database:
        return relax.transform.MetaScheduleApplyDatabase()(mod)


def _schedule_untuned(mod: Module, lowering: Lowering) -> Module:
    return FAMILIES[lowering.target.family].fallback(lowering.target)(mod)


def _prepack(mod: Module, lowering: Lowering) -> Module:
    from tvm import relax

    # The pass cannot handle kernels in other forms, such as a scan.
    opaque = {var: function for var, function in kernels(mod) if not is_plain(function)}
    for var in opaque:
        del mod[var]
    mod = pack_constants(relax.transform.SplitLayoutRewritePreproc()(mod), lowering.facts)
    mod.update(opaque)
    return fold(mod, lowering)


ONNX: tuple[Item, ...] = (
    # ONNX -> Relax, parameters as constants
    Phase(IMPORT, "onnx", run_import, ensures=(STATIC,)),
)
CANONICAL = Phase(  # canonical operators, batch norm in inference form
    "canonicalise", "graph", sequence(_canonical), requires=(STATIC,), ensures=(STATIC, INFERENCE)
)
DECODE_IN_KERNELS = Phase(  # pass int8 weights to the kernels that can decode them
    "decode-in-kernels", "graph", decode_in_kernels, requires=(STATIC,), ensures=(STATIC,)
)
# Passes for integer kernels from Q/DQ, layouts, Winograd and recurrent layers belong between these two.
FOLD_WEIGHTS = Phase(  # compute all other encoded constants, and remember how
    "fold-weights", "graph", fold, ensures=(STATIC, DECODED)
)
SIMPLIFY = Phase(  # fold constants, fold batch norm into convolutions, remove common and dead code
    "simplify", "graph", _simplify, requires=(STATIC, DECODED), ensures=(STATIC, DECODED)
)
KERNEL_PHASES: tuple[Item, ...] = (
    # operators become calls to TIR functions
    Phase("legalize", "kernels", _legalize, requires=(DECODED, INFERENCE), ensures=(LEGAL,)),
    # indices computed from tensors stay inside what they index
    Phase("bound-indices", "kernels", bound_indices, requires=(LEGAL,), ensures=(LEGAL, BOUNDED)),
    Phase("annotate-patterns", "kernels", sequence(_annotate_patterns), requires=(LEGAL,), ensures=(LEGAL,)),
    Phase("fuse-ops", "kernels", tracing.fuse, requires=(LEGAL,), ensures=(LEGAL,)),
    # one TIR function per kernel
    Phase("fuse-tir", "kernels", sequence(_fuse_tir), requires=(LEGAL,), ensures=(LEGAL, FUSED)),
)
FREE_LAYOUTS = Phase(  # mark the constants whose layout a CPU schedule may choose
    "free-weight-layouts", "kernels", sequence(_free_weight_layouts), requires=(FUSED,), ensures=(FUSED,)
)
SCHEDULE_PHASES: tuple[Item, ...] = (
    Mark(KERNELS, facts.record_kernels),
    Mark("macs", tracing.record_kernels),
    # tuned kernels
    Phase("apply-records", "schedules", _apply_records, requires=(FUSED,), ensures=(FUSED,)),
    Mark("tuned", facts.record_tuned),
    # untuned kernels, with the family's fallback schedule
    Phase("schedule-untuned", "schedules", _schedule_untuned, requires=(FUSED,), ensures=(SCHEDULED,)),
)
PREPACK = Phase(  # rearrange weights into the layout the schedules require, during the build
    "prepack", "schedules", _prepack, requires=(FUSED, SCHEDULED), ensures=(FUSED, SCHEDULED)
)


LIFT = Phase(  # the weights become parameters; encoded ones are decoded when the model is loaded
    "lift-weights", "schedules", lift_weights, requires=(FUSED, SCHEDULED), ensures=(FUSED, SCHEDULED)
)


def phases_for(target: Target, executor: Executor | None = None) -> tuple[Item, ...]:
    """Return the phases that lower a model for a target and an executor, by default the target's first, in order.

    On a GPU, TVM's rules do not choose weight layouts, and its convolutions accept only fp32 weights.
    """
    on_cpu = target.gpu is None
    return (
        *ONNX,
        CANONICAL,
        *((DECODE_IN_KERNELS,) if on_cpu else ()),
        FOLD_WEIGHTS,
        SIMPLIFY,
        *KERNEL_PHASES,
        *((FREE_LAYOUTS,) if on_cpu else ()),
        *SCHEDULE_PHASES,
        *((PREPACK,) if on_cpu else ()),
        LIFT,
        Mark("packed-functions", facts.record_packed),
        Mark("work", tracing.record_works),
        *(executor or executors_for(target)[0]).phases,
    )


def names(items: Sequence[Item]) -> list[str]:
    """Return the names of the phases in ``items``, in order."""
    return [item.name for item in items if isinstance(item, Phase)]


def run(
    items: Sequence[Item],
    lowering: Lowering,
    mod: Module | None = None,
    *,
    after: str | None = None,
    until: str | None = None,
    dump: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Module:
    """Run phases and marks, from the one after ``after`` (the first if None) up to and including ``until``.

    Args:
        items: Returned by ``phases_for``.
        lowering: Model, target and records; facts are recorded in it.
        mod: The module so far; None before the first phase.
        after: Name of the last phase or mark already applied to ``mod``.
        until: Name of the last phase or mark to run; all if None.
        dump: Folder in which to write ``NN-name.py`` after each phase.
        progress: Called with each phase's name before it runs.

    Raises:
        EdgepackError: A pass failed, or a condition does not hold; the message names the phase and the model.
    """
    every = [item.name for item in items]
    first = every.index(after) + 1 if after else 0
    last = every.index(until) if until else len(every) - 1
    numbers = {name: number for number, name in enumerate(names(items))}
    for item in items[first : last + 1]:
        if isinstance(item, Mark):
            item.record(mod, lowering)
            continue
        if progress:
            progress(item.name)
        mod = _run(item, numbers[item.name], mod, lowering)
        if dump:
            dump.mkdir(parents=True, exist_ok=True)
            path = dump / f"{numbers[item.name]:02d}-{item.name}.py"
            path.write_text(mod.script(show_meta=False), encoding="utf-8")
    return mod


def _run(phase: Phase, number: int, mod: Module | None, lowering: Lowering) -> Module:
    import tvm

    try:
        with lowering.tvm_target, tvm.transform.PassContext(opt_level=3):
            if checking():
                verify(phase.requires, mod, when="before", phase=phase)
            mod = phase.run(mod, lowering)
            if checking():
                verify(phase.ensures, mod, when="after", phase=phase)
    except EdgepackError:
        raise
    except Exception as error:
        said = str(error).strip()
        raise EdgepackError(
            f"lowering phase {number:02d}-{phase.name} failed",
            where=f"{lowering.model} for {lowering.target.name}",
            why=f"{type(error).__name__}: {said.splitlines()[-1] if said else repr(error)}",
            next=f"edgepack check --deep {quote(str(lowering.model))} names the node; edgepack compile --dump DIR … shows the module",
        ) from error
    return mod
