"""Graph phases between import and legalization."""

from typing import Any


def canonicalise(mod: Any, context: Any) -> Any:
    """Inference form of training operators, one binding a value, no duplicates."""
    import tvm
    from tvm import relax

    del context
    return tvm.transform.Sequential(
        [
            relax.transform.DecomposeOpsForInference(),
            relax.transform.CanonicalizeBindings(),
            relax.transform.EliminateCommonSubexpr(),
            relax.transform.DeadCodeElimination(),
        ]
    )(mod)


def fold_weights(mod: Any, context: Any) -> Any:
    """Replace ``dequantize(constant)`` by its value: quantized weights and biases become fp32 constants."""
    import numpy as np
    from tvm import relax

    del context

    @relax.expr_functor.mutator
    class Fold(relax.PyExprMutator):
        def visit_call_(self, call: Any) -> Any:
            call = self.visit_expr_post_order(call)
            if getattr(call.op, "name", "") != "relax.dequantize":
                return call
            args = [self._constant(arg) for arg in call.args]
            if any(arg is None for arg in args):
                return call
            data, scale, zero = (arg.data.numpy() for arg in args)
            axis = int(call.attrs.axis)
            shape = [-1 if i == axis % data.ndim else 1 for i in range(data.ndim)] if scale.ndim else []
            value = (data.astype("float32") - zero.astype("float32").reshape(shape)) * scale.reshape(shape)
            return relax.const(np.ascontiguousarray(value), str(call.attrs.out_dtype))

        def _constant(self, expr: Any) -> Any:
            if isinstance(expr, relax.Var):
                expr = self.lookup_binding(expr)
            return expr if isinstance(expr, relax.Constant) else None

    fold = Fold(mod)
    for name, function in mod.functions_items():
        if isinstance(function, relax.Function):
            fold.builder_.update_func(name, fold.visit_expr(function))
    return relax.transform.DeadCodeElimination()(fold.builder_.get())


def simplify(mod: Any, context: Any) -> Any:
    """Fold constants, fold batch norm into convolutions, drop common and dead code."""
    import tvm
    from tvm import relax

    del context
    return tvm.transform.Sequential(
        [
            relax.transform.FoldBatchnormToConv2D(),
            relax.transform.FoldConstant(),
            relax.transform.EliminateCommonSubexpr(),
            relax.transform.DeadCodeElimination(),
        ]
    )(mod)
