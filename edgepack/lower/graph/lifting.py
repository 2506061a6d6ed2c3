"""Weights leave the library: ``main`` takes them as parameters, and ``load_weights`` computes them from the weights file.

Encoded constants that no kernel decodes stay encoded in the file. ``load_weights`` decodes them, once, when the model is
loaded, and brings them into the layout that the kernels read; every other weight passes through it unchanged. Its
kernels are fused, scheduled and compiled like those of ``main``.
"""

from typing import Any

from edgepack.lower.conditions import kernels
from edgepack.lower.graph.folding import tensors, with_tensors
from edgepack.lower.graph.indices import bound_indices
from edgepack.lower.graph.legalize import legalizations
from edgepack.lower.graph.prefix import reduce_scans
from edgepack.lower.phase import Facts, Lowering, Module, content_of
from edgepack.schedules import FAMILIES
from edgepack.spec.encoding import DENSE, WORTHWHILE, ConstantSummary, Decoded
from edgepack.weightfile.file import PackedWeights, RawTensor, pack_weights

LOAD = "load_weights"


def lift_weights(mod: Module, lowering: Lowering) -> Module:
    """Make all constants of ``main`` parameters after its inputs, and pack the weights file."""
    from tvm import relax

    facts = lowering.facts
    facts.weights, facts.constants = None, ()
    constants = _constants(mod["main"])
    if not constants:
        return mod
    stored = _stored(facts, constants)
    facts.weights = pack_weights(
        [RawTensor(str(value.ty.dtype), value.value.numpy()) for value in stored.values()]
    )
    facts.constants = _summaries(facts, constants, list(stored), facts.weights)
    mod = _merge(_as_parameters(mod, constants), _loader(lowering, constants, stored))
    return relax.transform.DeadCodeElimination()(mod)


def _constants(function: Any) -> dict[str, Any]:
    """Return the constants of a function by content."""
    from tvm import ir, relax

    found: dict[str, Any] = {}

    def visit(expr: Any) -> None:
        if isinstance(expr, ir.GenericConst):
            found.setdefault(content_of(expr.value.numpy()), expr)

    relax.analysis.post_order_visit(function, visit)
    return found


def _stored(facts: Facts, constants: dict[str, Any]) -> dict[str, Any]:
    """Return what the file holds, by content: each constant, or what it is decoded from if that is smaller."""
    stored: dict[str, Any] = {}
    for content, constant in constants.items():
        leaves = _leaves(facts, content, constant)
        fresh = sum(_size(leaf) for key, leaf in leaves.items() if key not in stored)
        stored |= leaves if fresh + WORTHWHILE <= _size(constant) else {content: constant}
    return stored


def _leaves(facts: Facts, content: str, constant: Any) -> dict[str, Any]:
    """Return the constants from which one is computed; itself, if it does not depend on an encoded constant."""
    origin = facts.origins.get(content)
    if origin is None:
        return {content: constant}
    found: dict[str, Any] = {}
    for each in tensors(origin.call):
        found |= _leaves(facts, content_of(each.value.numpy()), each)
    return found


def _size(constant: Any) -> int:
    return int(constant.value.numpy().nbytes)


def _root(facts: Facts, content: str) -> tuple[str, bool] | None:
    """Return the encoding of the encoded constant on which a constant depends, and whether a kernel decodes it."""
    if content in facts.in_kernels:
        return facts.in_kernels[content].encoding, True
    if content in facts.encoded:
        return facts.encoded[content][0].encoding, False
    origin = facts.origins.get(content)
    for each in tensors(origin.call) if origin else ():
        found = _root(facts, content_of(each.value.numpy()))
        if found is not None:
            return found
    return None


def _summaries(
    facts: Facts, constants: dict[str, Any], stored: list[str], weights: PackedWeights
) -> tuple[ConstantSummary, ...]:
    """Summarise the constants by encoding, and when they are decoded."""
    entries = dict(zip(stored, weights.tensors, strict=True))
    rows: dict[tuple[str, Decoded], list[tuple[int, int, int]]] = {}
    for content, constant in constants.items():
        root = _root(facts, content)
        when: Decoded = "kernel" if root and root[1] else "build" if content in entries else "load"
        leaves = _leaves(facts, content, constant) if when == "load" else {content: constant}
        fresh = [entries.pop(key) for key in leaves if key in entries]
        sizes = (
            sum(each.stored_bytes for each in fresh),
            sum(each.raw_bytes for each in fresh),
            _size(constant),
        )
        rows.setdefault((root[0] if root else DENSE, when), []).append(sizes)
    return tuple(
        ConstantSummary(
            encoding=encoding,
            decoded=when,
            count=len(sizes),
            stored_bytes=sum(size[0] for size in sizes),
            raw_bytes=sum(size[1] for size in sizes),
            resident_bytes=sum(size[2] for size in sizes),
        )
        for (encoding, when), sizes in sorted(rows.items())
    )


def _as_parameters(mod: Module, constants: dict[str, Any]) -> Module:
    """Replace the constants of ``main`` by parameters in the same order."""
    from tvm import relax
    from tvm.relax.expr_functor import PyExprMutator, mutator

    parameters = {
        content: relax.Var(f"weight{number}", constant.ty)
        for number, (content, constant) in enumerate(constants.items())
    }

    @mutator
    class Parameters(PyExprMutator):  # type: ignore[misc]  # TVM is untyped
        def visit_generic_const_(self, constant: Any) -> Any:
            return parameters.get(content_of(constant.value.numpy()), constant)

    main = mod["main"]
    body = Parameters(mod).visit_expr(main.body)
    attrs = dict(main.attrs or {}) | {"num_input": len(main.params)}
    replaced = relax.Function(
        [*main.params, *parameters.values()], body, main.ret_ty, main.is_pure
    ).with_attrs(attrs)
    mod.update_func(mod.get_global_var("main"), replaced)
    return mod


def _loader(lowering: Lowering, constants: dict[str, Any], stored: dict[str, Any]) -> Module:
    """Return a module with ``load_weights`` and its scheduled kernels."""
    import tvm
    from tvm import relax

    builder = relax.BlockBuilder()
    variables = {
        content: relax.Var(f"stored{number}", constant.ty)
        for number, (content, constant) in enumerate(stored.items())
    }
    with builder.function(LOAD, list(variables.values())):
        with builder.dataflow():
            computed = dict(variables)
            values = [_compute(builder, lowering.facts, content, computed) for content in constants]
            out = builder.emit_output(relax.Tuple(values))
        builder.emit_func_output(out)
    mod = builder.get()
    with lowering.tvm_target, tvm.transform.PassContext(opt_level=3):
        mod = relax.backend.DispatchSortScan()(reduce_scans(mod, lowering))
        mod = relax.transform.LegalizeOps(legalizations())(mod)
        mod = bound_indices(mod, lowering)
        fuse = (
            relax.transform.AnnotateTIROpPattern(),
            relax.transform.FuseOps(),
            relax.transform.FuseTIR(),
            relax.transform.DeadCodeElimination([LOAD]),
        )
        mod = tvm.transform.Sequential(list(fuse))(mod)
        return FAMILIES[lowering.target.family].fallback(lowering.target)(mod)


def _compute(builder: Any, facts: Facts, content: str, computed: dict[str, Any]) -> Any:
    """Emit what computes a constant, unless it has been."""
    if content not in computed:
        origin = facts.origins[content]
        given = [
            _compute(builder, facts, content_of(each.value.numpy()), computed)
            for each in tensors(origin.call)
        ]
        kernel = None
        if origin.kernel is not None:
            kernel = builder.add_func(origin.kernel, str(origin.call.args[0].name_hint))
        computed[content] = builder.emit(with_tensors(origin.call, given, kernel))
    return computed[content]


def _merge(mod: Module, loader: Module) -> Module:
    """Return the module with the functions of the loader; its kernels get names that are not taken."""
    from tvm import relax
    from tvm.relax.expr_functor import PyExprMutator, mutator

    builder = relax.BlockBuilder(mod)
    renamed = {
        var: builder.add_func(function.without_attr("global_symbol"), f"{var.name_hint}_at_load")
        for var, function in kernels(loader)
    }

    @mutator
    class Renamer(PyExprMutator):  # type: ignore[misc]  # TVM is untyped
        def visit_global_var_(self, var: Any) -> Any:
            return renamed.get(var, var)

    builder.add_func(Renamer(builder.get()).visit_expr(loader[LOAD]).with_attr("global_symbol", LOAD), LOAD)
    return builder.get()
