"""Legalization rules for operators that TVM legalizes incorrectly or that LLVM has no intrinsic for."""

import math
from collections.abc import Callable
from typing import Any

from edgepack.lower.graph.half import half_legalizations
from edgepack.lower.graph.indices import index_legalizations
from edgepack.lower.graph.resize import resize

_SERIES_BELOW = 0.5  # exp(x) - exp(-x) loses digits below; four terms of the series are exact to 1e-9


def legalizations() -> dict[str, Callable[[Any, Any], Any]]:
    """Return the rules that replace TVM's in ``LegalizeOps``, by operator."""
    return {
        "relax.image.resize2d": resize,
        "relax.image.resize3d": resize,
        "relax.cosh": _elementwise(_cosh),
        "relax.sinh": _elementwise(_sinh),
        "relax.nn.prelu": _prelu,
        "relax.sign": _elementwise(_sign),
        "relax.argmax": _within,
        "relax.argmin": _within,
        "relax.max": _extreme("max", -math.inf),
        "relax.min": _extreme("min", math.inf),
        "relax.concat": _concat,
        **half_legalizations(),
        **index_legalizations(),
    }


def _concat(builder: Any, call: Any) -> Any:
    """Leave out parts without elements: no schedule takes a kernel that reads from one."""
    from tvm import relax, topi

    parts = call.args[0]
    while isinstance(parts, relax.Var) and isinstance(builder.lookup_binding(parts), relax.Tuple | relax.Var):
        parts = builder.lookup_binding(parts)
    if isinstance(parts, relax.Var):
        fields = [builder.emit(relax.TupleGetItem(parts, at)) for at in range(len(parts.ty.fields))]
    else:
        fields = list(parts.fields)
    filled = [each for each in fields if 0 not in [int(length) for length in each.ty.shape]]
    return builder.call_te(topi.concatenate, filled or fields[:1], int(call.attrs.axis or 0))


def _elementwise(function: Callable[[Any, str], Any]) -> Callable[[Any, Any], Any]:
    def legalize(builder: Any, call: Any) -> Any:
        from tvm import te

        def compute(x: Any) -> Any:
            return te.compute(
                x.shape, lambda *at: _rounded_once(function, x(*at), str(x.dtype)), name="compute"
            )

        return builder.call_te(compute, call.args[0], primfunc_name_hint=call.op.name.partition(".")[2])

    return legalize


def _rounded_once(function: Callable[[Any, str], Any], x: Any, dtype: str) -> Any:
    """Compute half precision in float32."""
    return (
        function(x.astype("float32"), "float32").astype(dtype) if dtype == "float16" else function(x, dtype)
    )


def _cosh(x: Any, dtype: str) -> Any:
    large, small = _exponentials(x, dtype)
    return large + small


def _sinh(x: Any, dtype: str) -> Any:
    from tvm import tirx

    def const(value: float) -> Any:
        return tirx.const(value, dtype)

    square = x * x
    series = x * (const(1) + square * (const(1 / 6) + square * (const(1 / 120) + square * const(1 / 5040))))
    large, small = _exponentials(x, dtype)
    far = tirx.Select(x < const(0), small - large, large - small)
    return tirx.Select(tirx.abs(x) < const(_SERIES_BELOW), series, far)


def _exponentials(x: Any, dtype: str) -> tuple[Any, Any]:
    """Return exp(abs(x)) / 2 and exp(-abs(x)) / 2, of which the first is finite wherever it is a number of the type."""
    from tvm import tirx

    half = tirx.const(0.5, dtype)
    root = tirx.exp(tirx.abs(x) * half)
    return half * root * root, half / root / root


def _sign(x: Any, dtype: str) -> Any:
    """Of 0 and NaN it is the number itself."""
    from tvm import tirx

    def const(value: float) -> Any:
        return tirx.const(value, dtype)

    return tirx.Select(x > const(0), const(1), tirx.Select(x < const(0), const(-1), x))


def _prelu(builder: Any, call: Any) -> Any:
    """A slope of infinity or NaN, times 0, is NaN: TVM multiplies unless the number is positive."""
    from tvm import te, tirx

    def prelu(x: Any, slope: Any) -> Any:
        axis = int(call.attrs.axis) % len(x.shape)

        def element(*at: Any) -> Any:
            return tirx.Select(x(*at) < tirx.const(0, x.dtype), x(*at) * slope(at[axis]), x(*at))

        return te.compute(x.shape, element, name="prelu")

    return builder.call_te(prelu, *call.args)


def _extreme(name: str, identity: float) -> Callable[[Any, Any], Any]:
    """A maximum or minimum whose initial value is infinity.

    TVM starts from the smallest finite number, so the maximum of only -inf (a masked row of attention) becomes
    -3.4e38. For integers TVM's rule is correct and is used.
    """

    def legalize(builder: Any, call: Any) -> Any:
        import tvm
        from tvm import te, tirx

        ty = call.args[0].ty
        if not str(ty.dtype).startswith("float"):
            return tvm.ir.Op.get(call.op.name).get_attr("FLegalize")(builder, call)
        rank = len(ty.shape)
        axis = range(rank) if call.attrs.axis is None else call.attrs.axis
        axes = sorted(int(each) % rank for each in axis)
        extreme = getattr(tirx, name)
        combine = te.comm_reducer(
            lambda x, y: extreme(x, y),  # noqa: PLW0108 - the reducer counts a function's parameters
            lambda dtype: tirx.const(identity, dtype),
            name=name,
        )

        def compute(x: Any) -> Any:
            reduced = {each: te.reduce_axis((0, x.shape[each]), name=f"k{each}") for each in axes}
            kept = [each for each in range(rank) if each not in reduced]
            keep = bool(call.attrs.keepdims)
            shape = [1 if each in reduced else x.shape[each] for each in range(rank) if keep or each in kept]

            def element(*at: Any) -> Any:
                outer = dict(zip(range(rank) if keep else kept, at, strict=True))
                return combine(
                    x(*[reduced.get(each, outer.get(each)) for each in range(rank)]),
                    axis=list(reduced.values()),
                )

            return te.compute(shape, element, name=f"x_red_{name}")

        return builder.call_te(compute, call.args[0], primfunc_name_hint=name)

    return legalize


def _within(builder: Any, call: Any) -> Any:
    """TVM's place of the largest or smallest element, which it starts from -1, as 0 if it stays -1.

    It stays if no element is beyond the smallest number of the type: a row of only -inf, or of only -128 in int8.
    """
    import tvm
    from tvm import te, tirx

    def within(x: Any) -> Any:
        return te.compute(x.shape, lambda *at: tirx.max(x(*at), tirx.const(0, x.dtype)), name="within")

    place = builder.emit(tvm.ir.Op.get(call.op.name).get_attr("FLegalize")(builder, call))
    return builder.call_te(within, place, primfunc_name_hint="within")
