"""Constant folding that remembers how constants were computed from encoded ones.

Everything that depends on constants alone is computed during the build, as by TVM's ``FoldConstant``, so that kernels
are chosen and scheduled for plain weights. For each constant that depends on an encoded one, ``Facts.origins`` keeps the
call that computed it: what the model needs to compute it again when it is loaded, from the encoded form.
"""

from collections.abc import Sequence
from typing import Any

from edgepack.lower.conditions import calls, graphs, kernels, operator
from edgepack.lower.graph.indices import bound_indices
from edgepack.lower.graph.legalize import legalizations
from edgepack.lower.phase import Facts, Lowering, Module, Origin, content_of

_VIEWS = {"relax.reshape", "relax.expand_dims", "relax.squeeze", "relax.permute_dims"}
_OF_NUMPY = {"bool", "int8", "uint8", "int32", "int64", "float16", "float32", "float64"}


def fold(mod: Module, lowering: Lowering) -> Module:
    """Compute all constant expressions, and remember those that depend on encoded constants."""
    import tvm
    from tvm.relax import transform

    rest = (transform.FoldConstant(), transform.DeadCodeElimination())
    return tvm.transform.Sequential(list(rest))(_fold_views(_fold_traced(_with_shapes(mod), lowering)))


def _fold_views(mod: Module) -> Module:
    """Reshape and transpose constants with NumPy: ``FoldConstant`` compiles a kernel for each that it computes."""
    import numpy as np
    from tvm import ir, relax
    from tvm.relax.expr_functor import PyExprMutator, mutator

    @mutator
    class ViewFolder(PyExprMutator):  # type: ignore[misc]  # TVM is untyped
        def visit_call_(self, call: Any) -> Any:
            made = self.visit_expr_post_order(call)
            name, dtype = operator(call), str(call.ty.dtype) if operator(call) in _VIEWS else ""
            if dtype not in _OF_NUMPY or not isinstance(made.args[0], ir.GenericConst):
                return made
            value = made.args[0].value.numpy()
            if name == "relax.permute_dims":
                value = value.transpose(
                    None if call.attrs.axes is None else [int(axis) for axis in call.attrs.axes]
                )
            shape = [int(extent) for extent in call.ty.shape]
            return relax.const(np.ascontiguousarray(value).reshape(shape), dtype)

    folder = ViewFolder(mod)
    for var, function in [each for each in mod.functions.items() if isinstance(each[1], relax.Function)]:
        folder.builder_.update_func(var, folder.visit_expr(function))
    return folder.builder_.get()


def remember(facts: Facts, call: Any, value: Any) -> None:
    """Record that ``call``, whose tensors are constants, gives ``value``, if one of them is or depends on an encoded one."""
    if any(is_traced(facts, content_of(each.value.numpy())) for each in tensors(call)):
        _record(facts, call, value, None)


def _record(facts: Facts, call: Any, value: Any, kernel: Any) -> None:
    """Record that ``call``, of an operator or of ``kernel``, gives ``value``; the first way to compute it counts."""
    content = content_of(value)
    if not is_traced(facts, content):
        facts.origins[content] = Origin(call, kernel)


def is_traced(facts: Facts, content: str) -> bool:
    """Whether a constant with this content is encoded, or is known to depend on one that is."""
    return content in facts.encoded or content in facts.in_kernels or content in facts.origins


def tensors(call: Any) -> list[Any]:
    """Return the tensors among a call's arguments; those of a kernel call are in a tuple."""
    from tvm import relax

    found: list[Any] = []
    for arg in call.args:
        found += [
            each for each in (arg.fields if isinstance(arg, relax.Tuple) else [arg]) if _is_tensor(each)
        ]
    return found


def with_tensors(call: Any, values: Sequence[Any], op: Any = None) -> Any:
    """Return the call with other tensors, in the order of ``tensors``, and with another callee if ``op`` is given."""
    from tvm import ir, relax

    left = iter(values)

    def replaced(arg: Any) -> Any:
        return next(left) if _is_tensor(arg) else arg

    args = [
        relax.Tuple([replaced(each) for each in arg.fields])
        if isinstance(arg, relax.Tuple)
        else replaced(arg)
        for arg in call.args
    ]
    if op is not None:
        args[0] = op
    return ir.Call(call.op, args, call.attrs, call.ty_args)


def _is_tensor(arg: Any) -> bool:
    from tvm import ir, relax

    return isinstance(arg, ir.GenericConst | relax.Var)


def _with_shapes(mod: Module) -> Module:
    """Replace shapes as tensors, all of which are known, by constants."""
    import numpy as np
    from tvm import relax
    from tvm.relax.expr_functor import PyExprMutator, mutator

    @mutator
    class ShapeReader(PyExprMutator):  # type: ignore[misc]  # TVM is untyped
        def visit_call_(self, call: Any) -> Any:
            call = self.visit_expr_post_order(call)
            values = call.args[0].ty.values if operator(call) == "relax.shape_to_tensor" else None
            return call if values is None else relax.const(np.array([int(each) for each in values]), "int64")

    if not any(operator(call) == "relax.shape_to_tensor" for each in graphs(mod) for call in calls(each)):
        return mod
    reader = ShapeReader(mod)
    for var, function in list(mod.functions.items()):
        if isinstance(function, relax.Function):
            reader.builder_.update_func(var, reader.visit_expr(function))
    return relax.transform.DeadCodeElimination()(reader.builder_.get())


def _fold_traced(mod: Module, lowering: Lowering) -> Module:
    """Compute what depends on encoded constants, remember how, and replace it by its value."""
    from tvm import ir

    values: dict[Any, Any] = {}
    for function in graphs(mod):
        constant = _constant_calls(function)
        wanted = _wanted(constant, lowering.facts)
        if not wanted:
            continue
        computed = _evaluate(mod, constant, lowering)
        for var, call in constant.items():
            given = [
                each if isinstance(each, ir.GenericConst) else computed.get(each) for each in tensors(call)
            ]
            if var not in computed or None in given:
                continue
            values[var] = computed[var]
            if var in wanted:
                kernel = mod[call.args[0]] if isinstance(call.args[0], ir.GlobalVar) else None
                _record(lowering.facts, with_tensors(call, given), computed[var].value.numpy(), kernel)

    return _with_values(mod, values) if values else mod


def _with_values(mod: Module, values: dict[Any, Any]) -> Module:
    """Replace variables by constants."""
    from tvm import relax
    from tvm.relax.expr_functor import PyExprMutator, mutator

    @mutator
    class ConstantFolder(PyExprMutator):  # type: ignore[misc]  # TVM is untyped
        def visit_dataflow_var_(self, var: Any) -> Any:
            return values.get(var, var)

        def visit_var_(self, var: Any) -> Any:
            return values.get(var, var)

    folder = ConstantFolder(mod)
    for var, function in list(mod.functions.items()):
        if isinstance(function, relax.Function):
            folder.builder_.update_func(var, folder.visit_expr(function))
    return relax.transform.DeadCodeElimination()(folder.builder_.get())


def _constant_calls(function: Any) -> dict[Any, Any]:
    """Return the calls that depend on constants alone, by variable and in order."""
    from tvm import ir, relax

    found: dict[Any, Any] = {}
    named: dict[Any, Any] = {}  # constants that are bound to variables
    for block in function.body.blocks:
        for binding in block.bindings:
            call = binding.value
            if isinstance(call, ir.GenericConst):
                named[binding.var] = call
            if not isinstance(binding, relax.VarBinding) or not isinstance(call, ir.Call):
                continue
            if not isinstance(binding.var.ty, relax.TensorType) or not _is_pure(call):
                continue
            given = [named.get(each, each) for each in tensors(call)]
            if given and all(isinstance(each, ir.GenericConst) or each in found for each in given):
                found[binding.var] = with_tensors(call, given)
    return found


def _wanted(constant: dict[Any, Any], facts: Facts) -> set[Any]:
    """Return the variables that depend on an encoded constant, and those that they depend on."""
    from tvm import ir

    wanted: set[Any] = set()
    for var, call in constant.items():
        for each in tensors(call):
            known = isinstance(each, ir.GenericConst) and is_traced(facts, content_of(each.value.numpy()))
            if known or each in wanted:
                wanted.add(var)
    for var, call in reversed(constant.items()):
        if var in wanted:
            wanted |= {each for each in tensors(call) if each in constant}
    return wanted


def _is_pure(call: Any) -> bool:
    """Whether a call is of an operator that can be computed during the build, or of a kernel."""
    from tvm import ir

    name = operator(call)
    return isinstance(call.op, ir.Op) and (name == "relax.call_tir" or not name.startswith("relax.call_"))


def _evaluate(mod: Module, constant: dict[Any, Any], lowering: Lowering) -> dict[Any, Any]:
    """Return the values of those calls that TVM folds, as constants by variable; indices are kept in range."""
    import tvm
    from tvm import ir, relax

    kernels_alone = tvm.IRModule(dict(kernels(mod)), attrs=mod.attrs)
    builder = relax.BlockBuilder(kernels_alone)
    renamed: dict[Any, Any] = {}
    with builder.function("values", []):
        with builder.dataflow():
            for var, call in constant.items():
                given = [renamed.get(each, each) for each in tensors(call)]
                renamed[var] = builder.emit(with_tensors(call, given))
            out = builder.emit_output(relax.Tuple(list(renamed.values())))
        builder.emit_func_output(out)
    # Scans, sorts and scatters have other kernels on a GPU; these values are computed on this machine.
    with tvm.target.Target("llvm"):
        dispatched = relax.backend.DispatchSortScan()(builder.get())
        legal = relax.transform.LegalizeOps(legalizations())(dispatched)
    folded = relax.transform.FoldConstant()(bound_indices(legal, lowering))
    results = {
        binding.var: binding.value for block in folded["values"].body.blocks for binding in block.bindings
    }
    body = folded["values"].body.body
    fields = (results[body] if isinstance(body, relax.Var) else body).fields
    return {
        var: field for var, field in zip(constant, fields, strict=True) if isinstance(field, ir.GenericConst)
    }
