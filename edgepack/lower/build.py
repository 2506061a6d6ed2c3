"""``compile_model`` and ``tuning_tasks``: the two uses of the phases."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.base.interrupt import deferred
from edgepack.config.target import Target
from edgepack.errors import InputError
from edgepack.lower import phases
from edgepack.lower.emit import library
from edgepack.schedules import tvm_target


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of the compiled model."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Kernel:
    """A kernel of the compiled model: its name, workload hash, whether records scheduled it, calls an inference."""

    name: str
    workload: str
    tuned: bool
    calls: int


@dataclass(frozen=True)
class Compiled:
    """What ``compile_model`` made."""

    path: Path
    kernels: tuple[Kernel, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    requires: tuple[str, ...]  # what the board must have
    seconds: float


def compile_model(
    onnx_path: Path,
    target: Target,
    out: Path,
    *,
    records: Path | None = None,
    dump: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Compiled:
    """Compile an ONNX model into a shared library for the target.

    Args:
        onnx_path: The model; shapes static but for the batch.
        target: For what.
        out: The library to write, replaced atomically.
        records: Folder with ``workload.json`` and ``tuning_record.json`` of this target, if there are any.
        dump: Folder for the module after each phase.
        progress: Called with the name of each phase, then ``build`` and ``link``.

    Raises:
        InputError: The model cannot be used: missing, corrupt, an operator TVM lacks, a shape that is not static.
        EdgepackError: A phase, the code generator or the linker failed.
    """
    with deferred() as interrupt_point:

        def tell(step: str) -> None:
            interrupt_point()
            if progress:
                progress(step)

        return _compile(_context(onnx_path, target, records), out, dump, tell)


def _compile(
    context: phases.Context, out: Path, dump: Path | None, progress: Callable[[str], None]
) -> Compiled:
    import tvm

    start = time.monotonic()
    target = context.target
    mod = phases.run(None, context, until=phases.KERNELS, dump=dump, progress=progress)
    workloads = {var.name_hint: workload(function) for var, function in _kernels(mod)}
    mod = phases.run(mod, context, after=phases.KERNELS, until=phases.APPLIED, dump=dump, progress=progress)
    tuned = {
        var.name_hint
        for var, function in _kernels(mod)
        if function.attrs and function.attrs.get("tirx.is_scheduled")
    }
    calls = _count_calls(mod)
    kernels = tuple(
        Kernel(name, workloads[name], name in tuned, count)
        for name, count in sorted(calls.items())
        if name in workloads
    )
    inputs, outputs = _signature(context.model, mod["main"])
    mod = phases.run(mod, context, after=phases.APPLIED, dump=dump, progress=progress)
    progress("build")
    library.use_our_cuda_compiler(target)
    with tvm.transform.PassContext(opt_level=3):
        executable = tvm.relax.build(mod, target=context.tvm_target, relax_pipeline=None)
    progress("link")
    library.export(executable, target, out)
    return Compiled(
        path=out,
        kernels=kernels,
        inputs=inputs,
        outputs=outputs,
        requires=requires(target),
        seconds=time.monotonic() - start,
    )


def requires(target: Target) -> tuple[str, ...]:
    """What a board must have to run models compiled for the target, for people."""
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
    """MetaSchedule's extracted tasks of the model: the workloads are those ``compile_model`` looks up.

    Raises:
        InputError: As ``compile_model``.
    """
    from tvm.s_tir.meta_schedule.relax_integration import extract_tasks

    context = _context(onnx_path, target, None)
    mod = phases.run(None, context, until=phases.KERNELS)
    return list(extract_tasks(mod, context.tvm_target))


def workload(function: Any) -> str:
    """Structural hash of a kernel as MetaSchedule normalises it, in hexadecimal."""
    import tvm_ffi
    from tvm.s_tir.meta_schedule.tune_context import _normalize_mod

    return f"{tvm_ffi.structural_hash(_normalize_mod(function)) & (2**64 - 1):016x}"


def _context(onnx_path: Path, target: Target, records: Path | None) -> phases.Context:
    if not onnx_path.is_file():
        raise InputError(f"no such model: {onnx_path}", next="check the path")
    return phases.Context(onnx_path, target, tvm_target(target), _database(records))


def _database(records: Path | None) -> Any:
    if records is None or not (records / "tuning_record.json").is_file():
        return None
    from tvm.s_tir.meta_schedule.database import JSONDatabase

    return JSONDatabase(
        str(records / "workload.json"), str(records / "tuning_record.json"), allow_missing=False
    )


def _kernels(mod: Any) -> list[tuple[Any, Any]]:
    from tvm import tirx

    return [(var, function) for var, function in mod.functions.items() if isinstance(function, tirx.PrimFunc)]


def _count_calls(mod: Any) -> dict[str, int]:
    from tvm import ir, relax

    counts: dict[str, int] = {}

    def visit(expr: Any) -> None:
        if isinstance(expr, ir.Call) and getattr(expr.op, "name", "") == "relax.call_tir":
            name = expr.args[0].name_hint
            counts[name] = counts.get(name, 0) + 1

    for function in mod.functions.values():
        if isinstance(function, relax.Function):
            relax.analysis.post_order_visit(function, visit)
    return counts


def _signature(onnx_path: Path, main: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    import onnx
    from tvm import relax

    graph = onnx.load(onnx_path, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    names = [value.name for value in graph.input if value.name not in constants]
    fields = main.ret_ty.fields if isinstance(main.ret_ty, relax.TupleType) else [main.ret_ty]
    inputs = tuple(_spec(name, var.ty) for name, var in zip(names, main.params, strict=True))
    outputs = tuple(_spec(value.name, ty) for value, ty in zip(graph.output, fields, strict=True))
    return inputs, outputs


def _spec(name: str, ty: Any) -> TensorSpec:
    return TensorSpec(name, tuple(int(dim) for dim in ty.shape), str(ty.dtype))
