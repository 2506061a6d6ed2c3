"""Facts recorded at the marks of the lowering: kernels, calls, the signature, packed functions."""

from collections import Counter
from pathlib import Path
from typing import Any

from edgepack.lower.conditions import calls, graphs, is_scheduled, kernels, operator
from edgepack.lower.phase import Lowering, Module
from edgepack.spec import Tensor


def workload(function: Any) -> str:
    """Return the structural hash of a kernel as MetaSchedule normalises it, in hexadecimal."""
    import tvm_ffi
    from tvm.s_tir.meta_schedule.tune_context import _normalize_mod

    return f"{tvm_ffi.structural_hash(_normalize_mod(function)) & (2**64 - 1):016x}"


def record_kernels(mod: Module, lowering: Lowering) -> None:
    """Record the workload of every kernel, as tuning sees it."""
    lowering.facts.workloads = {var.name_hint: workload(function) for var, function in kernels(mod)}


def record_tuned(mod: Module, lowering: Lowering) -> None:
    """Record which kernels are tuned, how often each is called, and the model's signature."""
    facts = lowering.facts
    facts.tuned = {var.name_hint for var, function in kernels(mod) if is_scheduled(function)}
    called = (
        call.args[0].name_hint
        for function in graphs(mod)
        for call in calls(function)
        if operator(call) == "relax.call_tir"
    )
    facts.calls = dict(Counter(called))
    facts.inputs, facts.outputs = _signature(lowering.model, mod["main"])


def record_packed(mod: Module, lowering: Lowering) -> None:
    """Record the functions that the model calls by name at run time, such as TVM's sort or random numbers."""
    import tvm_ffi
    from tvm import ir, relax

    names: set[str] = set()
    for _, function in kernels(mod):
        strings: list[Any] = []
        tvm_ffi.structural_walk(function.body, (ir.StringImm, strings.append))
        names.update(str(string.value) for string in strings)

    def visit(expr: Any) -> None:
        if isinstance(expr, relax.ExternFunc):
            names.add(str(expr.global_symbol))
        elif isinstance(expr, ir.Call):
            names.update(str(arg.value) for arg in expr.args if isinstance(arg, ir.StringImm))

    for function in graphs(mod):
        relax.analysis.post_order_visit(function, visit)
    lowering.facts.packed = {name for name in names if name.startswith("tvm.contrib.")}


def _signature(onnx_path: Path, main: Any) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    import onnx
    from tvm import relax

    graph = onnx.load(onnx_path, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    names = [value.name for value in graph.input if value.name not in constants]
    fields = main.ret_ty.fields if isinstance(main.ret_ty, relax.TupleType) else [main.ret_ty]
    inputs = tuple(_tensor(name, var.ty) for name, var in zip(names, main.params, strict=True))
    outputs = tuple(_tensor(value.name, ty) for value, ty in zip(graph.output, fields, strict=True))
    return inputs, outputs


def _tensor(name: str, ty: Any) -> Tensor:
    shape = tuple(int(dim) for dim in ty.shape)
    return Tensor.model_validate({"name": name, "shape": shape, "dtype": str(ty.dtype)})
