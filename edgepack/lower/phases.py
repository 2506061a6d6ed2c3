"""The lowering as one visible, numbered tuple of phases, each of which can be dumped and looked at.

A phase takes the module and the ``Context`` and returns the module. ``run`` executes a slice of the list,
under TVM's target and pass contexts, and writes the module after each phase when asked to.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.config.target import Target
from edgepack.errors import EdgepackError
from edgepack.lower.graph import simplify
from edgepack.lower.graph.legalize import legalizations
from edgepack.lower.onnx.frontend import import_onnx
from edgepack.schedules import FAMILIES

Module = Any  # tvm.IRModule; TVM is imported only when something is lowered


@dataclass(frozen=True)
class Context:
    """What the phases know besides the module."""

    model: Path
    target: Target
    tvm_target: Any
    database: Any | None = None  # MetaSchedule database with this target's records


@dataclass(frozen=True)
class Phase:
    """One step of the lowering: a name for dumps and errors, and a function of module and context."""

    name: str
    run: Callable[[Module, Context], Module]


def _legalize(mod: Module, context: Context) -> Module:
    from tvm import relax

    del context
    passes = (
        relax.backend.DispatchSampling(),
        relax.backend.DispatchSortScan(),
        relax.transform.LegalizeOps(legalizations()),
    )
    return _sequential(mod, *passes, relax.transform.FoldConstant(), relax.transform.DeadCodeElimination())


def _annotate_patterns(mod: Module, context: Context) -> Module:
    from tvm import relax

    del context
    return relax.transform.AnnotateTIROpPattern()(mod)


def _fuse_ops(mod: Module, context: Context) -> Module:
    from tvm import relax

    del context
    return relax.transform.FuseOps()(mod)


def _fuse_tir(mod: Module, context: Context) -> Module:
    from tvm import relax

    del context
    return relax.transform.FuseTIR()(mod)


def _free_weight_layouts(mod: Module, context: Context) -> Module:
    """Mark the constant arguments of each kernel: a CPU schedule may choose their layout."""
    from tvm import relax

    return mod if context.target.gpu else relax.transform.AttachAttrLayoutFreeBuffers()(mod)


def _apply_records(mod: Module, context: Context) -> Module:
    from tvm import relax

    if context.database is None:
        return mod
    with context.database:
        return relax.transform.MetaScheduleApplyDatabase()(mod)


def _schedule_untuned(mod: Module, context: Context) -> Module:
    return FAMILIES[context.target.family].fallback(context.target)(mod)


def _prepack(mod: Module, context: Context) -> Module:
    """Move the layout rewrites that schedules asked for out of the kernels, and do them here and now."""
    from tvm import relax, tirx

    if context.target.gpu:
        return mod
    # The pass cannot read kernels that are several loops under no block, such as a scan or a scatter.
    opaque = {
        name: function
        for name, function in mod.functions.items()
        if isinstance(function, tirx.PrimFunc) and not _is_blocks(function)
    }
    for name in opaque:
        del mod[name]
    mod = relax.transform.SplitLayoutRewritePreproc()(mod)
    mod.update(opaque)
    return _sequential(
        mod,
        relax.transform.FoldConstant(),
        relax.transform.DeadCodeElimination(),
    )


def _is_blocks(function: Any) -> bool:
    """Whether a kernel is one block, as those that come from te.compute are."""
    from tvm import s_tir

    return isinstance(function.body, s_tir.SBlockRealize) and function.body.block.name_hint == "root"


def _lower_dataflow(mod: Module, context: Context) -> Module:
    from tvm import relax

    del context
    return _sequential(
        mod,
        relax.transform.RewriteDataflowReshape(),
        relax.transform.ToNonDataflow(),
        relax.transform.RemovePurityChecking(),
        relax.transform.CallTIRRewrite(),
    )


def _lower_vm(mod: Module, context: Context) -> Module:
    from tvm import relax

    del context
    return _sequential(
        mod,
        relax.transform.StaticPlanBlockMemory(),
        relax.transform.LowerAllocTensor(),
        relax.transform.KillAfterLastUse(),
        relax.transform.LowerRuntimeBuiltin(),
        relax.transform.ComputePrimValue(),
        relax.transform.VMShapeLower(),
        relax.transform.AttachGlobalSymbol(),
    )


PHASES: tuple[Phase, ...] = (
    # The graph
    Phase("import", import_onnx),  # 0: ONNX -> Relax, static shapes, parameters as constants
    Phase("canonicalise", simplify.canonicalise),  # 1: one form for each thing, inference form of batch norm
    Phase("fold-weights", simplify.fold_weights),  # 2: DequantizeLinear of a constant becomes a constant
    # Integer kernels for the Q/DQ pairs around activations belong between these two phases.
    Phase("simplify", simplify.simplify),  # 3: constants, batch norm into convolution, common and dead code
    # Kernels
    Phase("legalize", _legalize),  # 4: operators become calls of TIR functions
    Phase("annotate-patterns", _annotate_patterns),  # 5
    Phase("fuse-ops", _fuse_ops),  # 6
    Phase("fuse-tir", _fuse_tir),  # 7: one TIR function a kernel
    Phase("free-weight-layouts", _free_weight_layouts),  # 8: tuning tasks are extracted after this phase
    # Schedules
    Phase("apply-records", _apply_records),  # 9: kernels somebody tuned
    Phase("schedule-untuned", _schedule_untuned),  # 10: the family's fallback for all others
    Phase("prepack", _prepack),  # 11: weights in the layout the schedules asked for
    # The virtual machine
    Phase("lower-dataflow", _lower_dataflow),  # 12
    Phase("lower-vm", _lower_vm),  # 13: memory plan, VM builtins
)

KERNELS = "free-weight-layouts"  # after it the kernels are what tuning sees
APPLIED = "apply-records"  # after it tuned kernels are marked as scheduled


def _sequential(mod: Module, *passes: Any) -> Module:
    import tvm

    return tvm.transform.Sequential(list(passes))(mod)


def names() -> Sequence[str]:
    """The names of all phases in order."""
    return [phase.name for phase in PHASES]


def run(
    mod: Module | None,
    context: Context,
    *,
    after: str | None = None,
    until: str | None = None,
    dump: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Module:
    """Run the phases after ``after`` (from the first if None) up to and including ``until``.

    Args:
        mod: The module so far; None before the first phase.
        context: Model, target and records.
        after: Name of the last phase that ``mod`` has been through.
        until: Name of the last phase to run; all if None.
        dump: Folder in which to write ``NN-name.py`` after each phase.
        progress: Called with each phase's name before it runs.

    Raises:
        EdgepackError: A pass failed; the message names the phase and the model.
    """
    import tvm

    first = names().index(after) + 1 if after else 0
    last = names().index(until) if until else len(PHASES) - 1
    for number in range(first, last + 1):
        phase = PHASES[number]
        if progress:
            progress(phase.name)
        try:
            with context.tvm_target, tvm.transform.PassContext(opt_level=3):
                mod = phase.run(mod, context)
        except EdgepackError:
            raise
        except Exception as error:
            raise EdgepackError(
                f"lowering phase {number:02d}-{phase.name} failed",
                where=f"{context.model} for {context.target.name}",
                why=f"{type(error).__name__}: {str(error).strip().splitlines()[-1] if str(error).strip() else error!r}",
                next=f"edgepack check --deep {context.model} names the node; edgepack compile --dump DIR … shows the module",
            ) from error
        if dump:
            dump.mkdir(parents=True, exist_ok=True)
            (dump / f"{number:02d}-{phase.name}.py").write_text(mod.script(show_meta=False), encoding="utf-8")
    return mod
