"""Machine code for kernels that take the addresses of their buffers, and check nothing.

TVM's own pipeline gives each kernel TVM's calling convention: boxed tensors whose types, shapes and alignment every call
checks anew. Here shapes are fixed and buffers are placed by the plan, so that addresses are all that a kernel needs. Zero
is returned; another number if the memory for a kernel's own arrays cannot be had.
"""

import math
from typing import Any

from edgepack.config.target import Target
from edgepack.lower.emit import arithmetic

_WORTH_SHARING = 8192  # vectors that a parallel loop writes: about 5 µs of one core
_HEADER = 64  # bytes before each array: pool.c
PIPELINE = "edgepack_raw"
"""The name of the pipeline, once it is registered."""


def register(target: Target, prefix: str) -> list[int]:
    """Register the pipeline for a target; kernels become functions with their names after ``prefix``.

    Returns a list that gets the bytes that each kernel's own arrays take, as kernels are compiled.
    """
    import tvm
    from tvm.tirx import compilation_pipeline

    workspaces: list[int] = []

    def factory() -> Any:
        before, after = arithmetic.host_passes(target)
        return (
            tvm.ir.transform.Sequential([*arithmetic.first_passes(), *_passes(prefix, workspaces)]),
            lambda: tvm.ir.transform.Sequential([*before, *_host_passes(), *after]),
            lambda: tvm.ir.transform.Sequential([]),
        )

    compilation_pipeline.register_tir_pipeline(PIPELINE, factory)
    return workspaces


def _passes(prefix: str, workspaces: list[int]) -> list[Any]:
    """Return TVM's passes for kernels on a CPU, in its order, with another calling convention."""
    from tvm import s_tir, tirx

    blocks, loops = s_tir.transform, tirx.transform
    return [
        blocks.CanonicalizeLoop(),
        blocks.LowerInitBlock(),
        blocks.PlanAndUpdateBufferAllocationLocation(),
        blocks.ConvertBlocksToOpaque(),
        blocks.CompactBufferAllocation(),
        blocks.LowerMatchBuffer(),
        blocks.StmtSimplify(),
        blocks.AnnotateIrregularLoop(),
        blocks.InjectSoftwarePipeline(),
        blocks.LowerOpaqueBlock(),
        small_loops_on_one_thread(),
        loops.FlattenBuffer(),
        loops.BF16ComputeLegalize(),
        loops.NarrowDataType(32),
        blocks.LoopPartition(),
        loops.VectorizeLoop(True),
        blocks.InjectVirtualThread(),
        blocks.InjectDoubleBuffer(),
        loops.StorageRewrite(),
        blocks.HoistIfThenElse(),
        loops.UnrollLoop(),
        blocks.RenormalizeSplitPattern(),
        loops.StmtSimplify(),
        loops.RemoveNoOp(),
        blocks.RewriteUnsafeSelect(),
        loops.CommonSubexprElim(),
        loops.FP8ComputeLegalize(),
        loops.VerifyMemory(),
        _addresses(prefix, workspaces),
        loops.FP8StorageLegalize(),
        loops.BF16StorageLegalize(),
    ]


def _host_passes() -> list[Any]:
    from tvm import tirx

    return [tirx.transform.LowerTVMBuiltin(), tirx.transform.LowerIntrin()]


def small_loops_on_one_thread() -> Any:
    """Return the pass that makes parallel loops serial whose work is less than it costs to share it."""
    import tvm_ffi
    from tvm import tirx

    parallel, serial = int(tirx.ForKind.PARALLEL), int(tirx.ForKind.SERIAL)

    def rewritten(loop: Any) -> Any:
        if int(loop.kind) != parallel or _steps(loop) >= _WORTH_SHARING:
            return loop
        return tirx.For(loop.loop_var, loop.min, loop.extent, serial, loop.body, None, loop.annotations)

    def run(function: Any, _mod: Any, _context: Any) -> Any:
        return function.with_body(tvm_ffi.structural_map(function.body, (tirx.For, rewritten)))

    return tirx.transform.prim_func_pass(run, opt_level=0, name="SmallLoopsOnOneThread")


def _steps(statement: Any) -> float:
    """Return about how many vectors or single elements a statement writes; infinite if that is decided at run time."""
    from tvm import tirx

    if isinstance(statement, tirx.SeqStmt):
        return sum(map(_steps, statement.seq))
    if isinstance(statement, tirx.IfThenElse):
        return sum(_steps(each) for each in (statement.then_case, statement.else_case) if each is not None)
    if isinstance(statement, tirx.For):
        if not isinstance(statement.extent, tirx.IntImm):
            return math.inf
        times = 1 if int(statement.kind) == int(tirx.ForKind.VECTORIZED) else int(statement.extent)
        return times * _steps(statement.body)
    if isinstance(statement, tirx.While):
        return math.inf
    body = getattr(statement, "body", None)
    return 1 if body is None else _steps(body)


def _addresses(prefix: str, workspaces: list[int]) -> Any:
    """Return the pass that makes kernels C functions of addresses."""
    import tvm

    def run(mod: Any, _context: Any) -> Any:
        workspaces.extend(map(_workspace, mod.functions.values()))
        functions = {
            var: _of_addresses(function).with_attr("global_symbol", f"{prefix}{var.name_hint}")
            for var, function in mod.functions.items()
        }
        return tvm.IRModule(functions, attrs=mod.attrs)

    return tvm.transform.module_pass(run, opt_level=0, name="Addresses")


def _of_addresses(function: Any) -> Any:
    from tvm import ir, tirx

    addresses, statements = [], []
    for buffer in function.params:
        element = ir.PrimType(str(buffer.ty.dtype))
        address = tirx.Var(buffer.name, ir.PointerType(element))
        addresses.append(address)
        if isinstance(
            offset := buffer.ty.elem_offset, tirx.Var
        ):  # of the first element, which the address is of
            statements.append(tirx.Bind(offset, tirx.const(0, str(offset.ty.dtype))))
        statements.append(tirx.DeclBuffer(buffer, data=address))
    zero, body = tirx.const(0, "int32"), function.body
    for key, value in (("device_id", 0), ("device_type", 1)):  # where a kernel's own arrays are allocated
        body = tirx.AttrStmt(zero, key, tirx.const(value, "int32"), body)
    # Arrays are freed where their scope ends: inside of these, so before the return.
    body = tirx.SeqStmt([*statements, body, tirx.Return(zero)])
    return tirx.PrimFunc(addresses, body, ir.PrimType("int32"), function.attrs)


def _workspace(function: Any) -> int:
    """Return the bytes that the arrays of a lowered kernel take at the most."""
    import tvm_ffi
    from tvm import tirx

    sizes: list[int] = []

    def visit(node: Any) -> None:
        buffer = node.buffer
        elements = 1
        for extent in buffer.shape:
            elements *= int(extent)
        dtype = tvm_ffi.dtype(str(buffer.dtype))
        sizes.append(elements * max(1, dtype.itemsize))

    tvm_ffi.structural_walk(function.body, (tirx.AllocBuffer, visit))
    return sum(_HEADER + -(-size // 64) * 64 for size in sizes)
