"""Conditions on a module between phases, each checked by walking the module."""

from collections.abc import Iterator
from typing import Any

from edgepack.lower.phase import Condition, Module
from edgepack.schedules.kernel import is_plain

_SCHEDULED = "tirx.is_scheduled"


def kernels(mod: Module) -> Iterator[tuple[Any, Any]]:
    """Yield the name and function of every kernel."""
    from tvm import tirx

    for var, function in mod.functions.items():
        if isinstance(function, tirx.PrimFunc):
            yield var, function


def graphs(mod: Module) -> Iterator[Any]:
    """Yield every Relax function."""
    from tvm import relax

    for function in mod.functions.values():
        if isinstance(function, relax.Function):
            yield function


def calls(function: Any) -> Iterator[Any]:
    """Return every call in a Relax function, in post order."""
    from tvm import ir, relax

    nodes: list[Any] = []

    def visit(expr: Any) -> None:
        if isinstance(expr, ir.Call):
            nodes.append(expr)

    relax.analysis.post_order_visit(function, visit)
    yield from nodes


def operator(call: Any) -> str:
    """Return the name of the called operator, or an empty string if the callee is a function."""
    return str(getattr(call.op, "name", ""))


def is_scheduled(function: Any) -> bool:
    """Whether a kernel has been scheduled."""
    return bool(function.attrs and function.attrs.get(_SCHEDULED))


def _static(mod: Module) -> str | None:
    from tvm import relax, tirx

    for function in graphs(mod):
        for block in function.body.blocks:
            for binding in block.bindings:
                types = (
                    binding.var.ty.fields if isinstance(binding.var.ty, relax.TupleType) else [binding.var.ty]
                )
                for ty in types:
                    if isinstance(ty, relax.TensorType) and not (
                        isinstance(ty.shape, relax.ShapeExpr)
                        and all(isinstance(dim, tirx.IntImm) for dim in ty.shape)
                    ):
                        return f"{binding.var} is {ty}"
    return None


def _inference(mod: Module) -> str | None:
    training = {"relax.nn.dropout"}
    present = {operator(call) for function in graphs(mod) for call in calls(function)} & training
    return f"there is {', '.join(sorted(present))}" if present else None


def _decoded(mod: Module) -> str | None:
    from tvm import ir

    for function in graphs(mod):
        for call in calls(function):
            if operator(call) == "relax.dequantize" and all(
                isinstance(a, ir.GenericConst) for a in call.args
            ):
                return f"a constant of type {call.args[0].ty} is decoded at run time"
    return None


def _legal(mod: Module) -> str | None:
    """Only calls to kernels and packed functions, and what the virtual machine executes itself."""
    kept = ("relax.call_", "relax.builtin.", "relax.memory.", "relax.vm.", "relax.reshape", "relax.shape_of")
    for function in graphs(mod):
        for call in calls(function):
            name = operator(call)
            if name.startswith("relax.") and not name.startswith(kept):
                return f"{name} is not a kernel call"
    return None


def _fused(mod: Module) -> str | None:
    from tvm import relax

    left = [
        var.name_hint
        for var, function in mod.functions.items()
        if isinstance(function, relax.Function) and function.attrs and function.attrs.get("Primitive")
    ]
    return f"{', '.join(left)} has not been fused into one function" if left else None


def _scheduled(mod: Module) -> str | None:
    left = [
        var.name_hint for var, function in kernels(mod) if is_plain(function) and not is_scheduled(function)
    ]
    return f"{', '.join(left)} has no schedule" if left else None


def _sequential(mod: Module) -> str | None:
    from tvm import relax

    for function in graphs(mod):
        if any(isinstance(block, relax.DataflowBlock) for block in function.body.blocks):
            return "the graph contains a dataflow block"
    return None


def _planned(mod: Module) -> str | None:
    for function in graphs(mod):
        for call in calls(function):
            if operator(call) in {"relax.builtin.alloc_tensor", "relax.call_tir"}:
                return f"the graph contains {operator(call)}"
    return None


STATIC = Condition("every shape is static", _static)
INFERENCE = Condition("no training-only operators", _inference)
DECODED = Condition("no constant is decoded by a separate operator", _decoded)
LEGAL = Condition("the graph contains only kernel calls", _legal)
FUSED = Condition("every kernel is one function", _fused)
SCHEDULED = Condition("every kernel has a schedule", _scheduled)
SEQUENTIAL = Condition("the graph is sequential", _sequential)
PLANNED = Condition("memory is planned", _planned)
