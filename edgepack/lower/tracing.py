"""Which nodes of the ONNX file a call of a kernel computes.

TVM keeps no names. Most passes keep the variables to which results are bound, so the nodes are kept by variable, and
carried over the passes that bind others: ``FuseOps``, and those that make a sequence of calls. A variable that a pass has
added is part of what is computed for the next known one. Where that does not lead to an answer, nodes are unknown.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from edgepack.lower.conditions import calls, kernels, operator
from edgepack.lower.costs import Macs, macs_of
from edgepack.lower.phase import Facts, Lowering, Module
from edgepack.spec.kernels import CalledKernel, KernelWork, NodeRef

T = TypeVar("T")

_NUMBER = "edgepack.binding"


def record_nodes(mod: Module, made: Mapping[Any, str], refs: Mapping[str, NodeRef], facts: Facts) -> None:
    """Record the nodes of an imported module's variables: ``made`` names the node whose output a variable is."""
    found = {var: (refs[name],) for var, name in made.items() if name in refs}
    bound = [binding.var for binding in _bindings(mod["main"])]
    facts.nodes = dict(zip(bound, _next_known(bound, found), strict=True))


def fuse(mod: Module, lowering: Lowering) -> Module:
    """Group calls of kernels that are to become one kernel, and record the nodes of each group."""
    from tvm.relax import transform

    facts, fused = lowering.facts, transform.FuseOps()(mod)
    before = [binding.var for binding in _bindings(mod["main"])]
    nodes = _next_known(before, facts.nodes)
    groups = _groups(mod)
    after = [binding.var for binding in _bindings(fused["main"])]
    if len(groups) == len(after):
        facts.nodes = {
            var: tuple(dict.fromkeys(node for number in group for node in nodes[number] or ()))
            for var, group in zip(after, groups, strict=True)
        }
    return fused


def _groups(mod: Module) -> list[list[int]]:
    """Return the numbers of the bindings that ``FuseOps`` puts in each binding of ``main``.

    The calls of a copy have their numbers as attributes, which the pass keeps. Equal groups remain apart there, for the same
    reason; otherwise they share a function.
    """
    import tvm
    from tvm import ir, relax

    numbered = tvm.IRModule(dict(mod.functions), attrs=mod.attrs)
    main, count, blocks = mod["main"], 0, []
    for block in main.body.blocks:
        bindings = []
        for binding in block.bindings:
            value = binding.value
            if isinstance(value, ir.Call) and value.attrs is None:
                value = ir.Call(
                    value.op, value.args, {_NUMBER: count}, value.ty_args, value.span, ret_ty=value.ty
                )
                bindings.append(relax.VarBinding(binding.var, value))
            else:
                bindings.append(binding)
            count += 1
        blocks.append(type(block)(bindings))
    body = relax.SeqExpr(blocks, main.body.body)
    function = relax.Function(main.params, body, main.ret_ty, main.is_pure).with_attrs(dict(main.attrs or {}))
    numbered[mod.get_global_var("main")] = function
    fused = relax.transform.FuseOps()(numbered)
    return [_numbers(fused, binding.value) for binding in _bindings(fused["main"])]


def _numbers(mod: Module, value: Any) -> list[int]:
    from tvm import ir

    if not isinstance(value, ir.Call):
        return []
    inner = calls(mod[value.op]) if isinstance(value.op, ir.GlobalVar) else [value]
    return [int(call.attrs[_NUMBER]) for call in inner if call.attrs is not None and _NUMBER in call.attrs]


def record_kernels(mod: Module, lowering: Lowering) -> None:
    """Record which kernel each variable is a result of, and the multiply-accumulates of kernels, before they are scheduled."""
    facts = lowering.facts
    facts.macs = {str(var.name_hint): macs_of(function) for var, function in kernels(mod)}
    facts.kernel_of = {
        binding.var: str(binding.value.args[0].name_hint)
        for binding in _bindings(mod["main"])
        if _is_kernel_call(binding.value)
    }


def record_works(mod: Module, lowering: Lowering) -> None:
    """Record what the calls of ``main`` do, by their final names, and the nodes of each binding."""
    facts = lowering.facts
    bound = list(_bindings(mod["main"]))
    variables = [binding.var for binding in bound]
    facts.bound_nodes = [nodes or () for nodes in _next_known(variables, facts.nodes)]
    former = _next_known(variables, facts.kernel_of)
    last: dict[
        str, str
    ] = {}  # by the name of a kernel as it was: the last call for it, which is not one that packs weights
    works = []
    for binding, name in zip(bound, former, strict=True):
        if _is_kernel_call(binding.value):
            works.append((binding.value, name))
            if name is not None:
                last[name] = str(binding.value.args[0].name_hint)
    facts.works = {
        str(call.args[0].name_hint): _work(
            call, name if name and last[name] == str(call.args[0].name_hint) else None, facts
        )
        for call, name in works
    }


def _work(call: Any, former: str | None, facts: Facts) -> KernelWork:
    macs = facts.macs.get(former or "", Macs())
    results = [field for ty in call.ty_args for field in getattr(ty, "fields", [ty])]
    given = call.args[1].fields if hasattr(call.args[1], "fields") else [call.args[1]]
    return KernelWork(
        name=str(call.args[0].name_hint),
        tuned=former in facts.tuned,
        arithmetic=macs.arithmetic,
        macs=macs.count,
        read=sum(_size(each.ty) for each in dict.fromkeys(given)),
        written=sum(map(_size, results)),
    )


def record_calls(mod: Module, lowering: Lowering) -> None:
    """Record the calls of kernels in the order in which they are executed, once they write to memory that was allocated."""
    from tvm import ir

    facts, number = lowering.facts, 0
    found = []
    for binding in _bindings(mod["main"]):
        value = binding.value
        if isinstance(value, ir.Call) and isinstance(value.op, ir.GlobalVar):
            found.append((str(value.op.name_hint), number))
        elif operator_of(value) != "relax.builtin.alloc_tensor":
            number += 1
    known = number == len(facts.bound_nodes)
    facts.called = [
        CalledKernel(kernel=name, nodes=facts.bound_nodes[at] if known else ()) for name, at in found
    ]


def operator_of(value: Any) -> str:
    """Return the name of the operator that an expression calls; empty if it is no such call."""
    from tvm import ir

    return operator(value) if isinstance(value, ir.Call) else ""


def _is_kernel_call(value: Any) -> bool:
    return operator_of(value) == "relax.call_tir"


def _bindings(function: Any) -> Iterable[Any]:
    for block in function.body.blocks:
        yield from block.bindings


def _next_known(variables: list[Any], found: Mapping[Any, T]) -> list[T | None]:
    """Return what is known of each variable, or of the next one after it."""
    after: T | None = None
    result = []
    for var in reversed(variables):
        after = found.get(var, after)
        result.append(after)
    return result[::-1]


def _size(ty: Any) -> int:
    """Return the bytes of a tensor type with a known shape; 0 for any other."""
    import tvm_ffi
    from tvm import relax, tirx

    if not isinstance(ty, relax.TensorType) or not isinstance(ty.shape, relax.ShapeExpr):
        return 0
    elements = 1
    for extent in ty.shape:
        elements *= int(extent) if isinstance(extent, tirx.IntImm) else 0
    return elements * max(1, int(tvm_ffi.dtype(str(ty.dtype)).itemsize))
