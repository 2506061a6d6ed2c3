"""``compile_model`` and ``tuning_tasks``: the two functions that run the lowering phases."""

import importlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgepack.base.interrupt import defer_interrupt
from edgepack.config.target import Target
from edgepack.errors import EdgepackError, InputError, UnsupportedError
from edgepack.lower import phases
from edgepack.lower.conditions import kernels
from edgepack.lower.emit.aot.errors import NeedsMachineError
from edgepack.lower.locating import locate
from edgepack.lower.onnx.frontend import import_model
from edgepack.lower.phase import Executor, Facts, Lowering, Mark
from edgepack.lower.result import Compiled, Emitted, Kernel
from edgepack.lower.types import slow_types
from edgepack.onnxfile import load_onnx
from edgepack.schedules import tvm_target
from edgepack.schedules.kernel import is_plain
from edgepack.spec.kernels import KernelList
from edgepack.weightfile.file import weights_path

# The phases import these inside functions, which takes seconds; that time is not counted as compile time.
_IMPORTED_BY_PHASES = ("tvm.relax.frontend.onnx", "onnxscript.optimizer")


def compile_model(
    onnx_path: Path,
    target: Target,
    out: Path,
    *,
    records: Path | None = None,
    dump: Path | None = None,
    static: str | None = None,
    embed: bool = False,
    objects: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Compiled:
    """Compile an ONNX model into a shared library for the target, and a file with its weights beside it.

    Args:
        onnx_path: The model; all shapes static except the batch.
        target: The target to compile for.
        out: The library to write; its weights file is ``out`` with the suffix ``.weights``. Each is replaced atomically.
        records: Folder with ``workload.json`` and ``tuning_record.json`` of this target, if any.
        dump: Folder in which to write the module after each phase.
        static: Build a static library in place of a shared one; its symbols begin with this name, an identifier of C.
        embed: Put the weights into the static library, in place of a file beside it.
        objects: Where to write an archive of the model's object files, too, which the agent is linked with
            (:func:`edgepack.agent.build.link_agent`). It is not written if TVM's virtual machine executes the model.
        progress: Called with the name of each phase, then with ``build`` and ``link``.

    Raises:
        InputError: The model cannot be used: missing, corrupt, an unsupported operator, a dynamic shape; or it needs TVM's
            virtual machine and is to be a static library.
        EdgepackError: A phase, the code generator or the linker failed.
    """
    for package in _IMPORTED_BY_PHASES:
        importlib.import_module(package)
    start = time.monotonic()
    with defer_interrupt() as interrupt_point:

        def tell(step: str) -> None:
            interrupt_point()
            if progress:
                progress(step)

        lowering = replace(_lowering(onnx_path, target, records), static=static, embed=embed, objects=objects)
        try:
            items = phases.phases_for(target)
            mod = phases.run(items, lowering, until=phases.SEQUENCE, dump=dump, progress=tell)
            executor, built, reason = finish(mod, lowering, out, dump=dump, progress=tell)
        except InputError:
            raise
        except EdgepackError as error:
            raise _located(lowering) or error from error
    facts = lowering.facts
    return Compiled(
        path=out,
        kernels=_kernels(facts),
        inputs=facts.inputs,
        outputs=facts.outputs,
        constants=facts.constants,
        calls=_calls(facts),
        executor=executor.name,
        runtime=executor.runtime(target, facts),
        requires=requires(target),
        seconds=time.monotonic() - start,
        sources=built.sources,
        warnings=slow_types(onnx_path, target),
        weights=weights_path(out) if facts.weights and not embed else None,
        objects=objects if executor.name == "aot" else None,
        memory=built.memory,
        executor_reason=reason,
    )


def finish(
    mod: Any,
    lowering: Lowering,
    out: Path,
    *,
    dump: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Executor, Emitted, str | None]:
    """Build a module after the phase ``SEQUENCE`` with the first executor that takes it.

    Returns that executor, what it has built, and why those before it did not take the module.

    Raises:
        NeedsMachineError: None takes it.
        EdgepackError: The code generator or the linker failed.
    """
    refused: NeedsMachineError | None = None
    for executor in phases.executors_for(lowering.target):
        if lowering.static is not None and executor.name != "aot":
            raise InputError(
                "the model cannot be a static library: TVM's virtual machine executes it",
                where=f"{lowering.model} for {lowering.target.name}",
                why="a model for a GPU needs it" if refused is None else refused.why,
                next="build a bundle, which contains the virtual machine: leave out --as static",
            ) from refused
        items = phases.phases_for(lowering.target, executor)
        ready = phases.run(items, lowering, mod, after=phases.SEQUENCE, dump=dump, progress=progress)
        try:
            built = executor.build(ready, lowering, out, progress)
        except NeedsMachineError as error:
            refused = error
        else:
            return executor, built, None if refused is None else refused.why
    raise refused or EdgepackError(f"{lowering.target.name} has no executor")


def _located(lowering: Lowering) -> UnsupportedError | None:
    """Return an error with the nodes that cannot be compiled on their own either; None if each of them can."""
    where = str(lowering.model)
    _, _, model = import_model(load_onnx(lowering.model), where)
    alone = Lowering(lowering.model, lowering.target, lowering.tvm_target)
    # Facts are about the whole model, whose inputs and outputs a node does not have.
    executor = phases.executors_for(lowering.target)[-1]
    items = [item for item in phases.phases_for(lowering.target, executor) if not isinstance(item, Mark)]

    def compile_node(module: Any) -> None:
        with TemporaryDirectory(prefix="edgepack-node-") as folder:
            lowered = phases.run(items, alone, module, after=phases.IMPORT)
            executor.build(lowered, alone, Path(folder) / executor.file, lambda _: None)

    problems = list(locate(model, where, compile_node))
    return UnsupportedError(where, problems) if problems else None


def _kernels(facts: Facts) -> tuple[Kernel, ...]:
    return tuple(
        Kernel(name=name, workload=facts.workloads[name], tuned=name in facts.tuned, calls=count)
        for name, count in sorted(facts.calls.items())
        if name in facts.workloads
    )


def _calls(facts: Facts) -> KernelList:
    called = {call.kernel for call in facts.called}
    works = sorted(work for work in facts.works if work in called)
    return KernelList(kernels=tuple(facts.works[name] for name in works), calls=tuple(facts.called))


def requires(target: Target) -> tuple[str, ...]:
    """Requirements on the board for running models compiled for the target, as text."""
    needs = [f"{target.abi.arch} Linux with glibc {target.abi.libc} or later"]
    if target.cpu.features:
        needs.append(f"a CPU with {', '.join(target.cpu.features)}")
    if target.gpu:
        needs.append(f"a GPU of compute capability {target.gpu.arch} ({target.gpu.name})")
        major = target.gpu.cuda.split(".")[0]
        needs.append(
            f"the CUDA {target.gpu.cuda} runtime, libcudart.so.{major}: JetPack {target.gpu.jetpack} or later"
        )
    return tuple(needs)


def tuning_tasks(onnx_path: Path, target: Target) -> list[Any]:
    """Return MetaSchedule's extracted tasks of the model: the workloads that ``compile_model`` looks up.

    Kernels in another form than ``te.compute``'s, such as a scan, are left out: a search could not schedule them.

    Raises:
        InputError: As ``compile_model``.
    """
    from tvm.s_tir.meta_schedule.relax_integration import extract_tasks

    lowering = _lowering(onnx_path, target, None)
    items = phases.phases_for(target)
    mod = phases.run(items, lowering, until=phases.KERNELS)
    tasks = extract_tasks(mod, lowering.tvm_target)
    return [task for task in tasks if all(is_plain(function) for _, function in kernels(task.mod))]


def _lowering(onnx_path: Path, target: Target, records: Path | None) -> Lowering:
    if not onnx_path.is_file():
        raise InputError(f"no such model: {onnx_path}", next="check the path")
    return Lowering(onnx_path, target, tvm_target(target), _database(records))


def _database(records: Path | None) -> Any:
    if records is None or not (records / "tuning_record.json").is_file():
        return None
    from tvm.s_tir.meta_schedule.database import JSONDatabase

    return JSONDatabase(
        str(records / "workload.json"), str(records / "tuning_record.json"), allow_missing=False
    )
