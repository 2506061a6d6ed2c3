"""The executor ``vm``, TVM's virtual machine: memory plan and bytecode, then one shared library."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgepack.config.target import Target
from edgepack.errors import EdgepackError
from edgepack.lower.conditions import FUSED, LEGAL, PLANNED, SCHEDULED, SEQUENTIAL
from edgepack.lower.emit import objects
from edgepack.lower.phase import Executor, Facts, Lowering, Mark, Module, Phase, sequence
from edgepack.lower.result import Emitted
from edgepack.lower.tracing import record_calls
from edgepack.spec.runtime import BASE, CUDA, EXTRA


def _sequence_passes() -> Sequence[Any]:
    from tvm.relax import transform

    return (
        transform.RewriteDataflowReshape(),
        transform.ToNonDataflow(),
        transform.RemovePurityChecking(),
        transform.CallTIRRewrite(),
    )


def _machine_passes() -> Sequence[Any]:
    from tvm.relax import transform

    return (
        transform.StaticPlanBlockMemory(),
        transform.LowerAllocTensor(),
        transform.KillAfterLastUse(),
        transform.LowerRuntimeBuiltin(),
        transform.ComputePrimValue(),
        transform.VMShapeLower(),
        transform.AttachGlobalSymbol(),
    )


SEQUENCE = Phase(
    "lower-dataflow",
    "emit",
    sequence(_sequence_passes),
    requires=(LEGAL, FUSED, SCHEDULED),
    ensures=(SEQUENTIAL,),
)

CALLS = Mark("calls", record_calls)

PHASES: tuple[Phase | Mark, ...] = (
    SEQUENCE,
    CALLS,
    Phase("lower-vm", "emit", sequence(_machine_passes), requires=(SEQUENTIAL,), ensures=(PLANNED,)),
)


def build(mod: Module, lowering: Lowering, out: Path, progress: Callable[[str], None]) -> Emitted:
    """Generate code and link the library ``out``; returns its CUDA modules."""
    import tvm

    from edgepack.lower.emit import arithmetic, library

    progress("build")
    compiler, pipeline = library.use_our_cuda_compiler(lowering.target), arithmetic.register(lowering.target)
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
        try:
            if lowering.target.gpu is None:
                executable = _build_on_cores(mod, lowering, Path(folder), pipeline)
            else:
                with tvm.transform.PassContext(opt_level=3):
                    executable = tvm.relax.build(
                        mod, target=lowering.tvm_target, relax_pipeline=None, tir_pipeline=pipeline
                    )
        except EdgepackError:
            raise
        except Exception as error:  # TVM and LLVM raise errors of no common class
            lines = str(error).strip().splitlines()
            raise EdgepackError(
                "the code generator failed",
                where=f"{lowering.model} for {lowering.target.name}",
                why=lines[-1] if lines else type(error).__name__,
                next="edgepack compile --dump DIR … shows the module after each phase",
            ) from error
        progress("link")
        library.export(executable, lowering.target, out, compiler, lowering.facts)
    return Emitted(tuple(compiler.modules))


def _build_on_cores(mod: Module, lowering: Lowering, folder: Path, pipeline: str) -> Any:
    """Do what ``relax.build`` does, with one core per part of the kernels; the object files stay in ``folder``."""
    import tvm
    from tvm import relax
    from tvm.relax import vm_build

    builder = relax.ExecBuilder()
    rest = vm_build._vmcodegen(builder, mod)  # noqa: SLF001 - the steps of relax.build have no public names
    kernels = vm_build._filter_tir(rest)  # noqa: SLF001
    files = objects.object_files(kernels, lowering.tvm_target, folder, pipeline) if kernels else {}
    libraries = [tvm.runtime.load_static_library(str(path), names) for path, names in files.items()]
    return vm_build._vmlink(builder, lowering.tvm_target, ext_libs=libraries)  # noqa: SLF001


def runtime(target: Target, facts: Facts) -> tuple[str, ...]:
    """Return the file names of the libraries the model needs: TVM's runtime and, if used, its optional parts."""
    extra = (EXTRA,) if facts.packed else ()
    cuda = (CUDA,) if target.gpu is not None else ()
    return (*BASE, *extra, *cuda)


EXECUTOR = Executor(name="vm", phases=PHASES, build=build, runtime=runtime, file="model.so")
