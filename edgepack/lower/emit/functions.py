"""Functions that TVM lowers to formulas which lose digits near 0, or computes in half precision."""

from typing import Any

from edgepack.lower.emit.expressions import bind, constant, element, is_float, value_of, widened

_HALVES = {"float16", "bfloat16"}
_WIDENED = {
    f"tirx.{name}"
    for name in (
        *(
            "acos",
            "acosh",
            "asin",
            "asinh",
            "atan",
            "atanh",
            "cos",
            "cosh",
            "erf",
            "exp",
            "exp10",
            "exp2",
            "log",
        ),
        *("log10", "log2", "nearbyint", "pow", "round", "rsqrt", "sigmoid", "sin", "sinh", "tan", "tanh"),
    )
}
"""Functions that are computed in float32 for half precision, and rounded once."""

# Below the limit, the series is exact to the type's last digits; above it, TVM's formula with exp is.
_SERIES_BELOW = {"float32": 0.25, "float64": 0.02}
_TANH = (62 / 2835, -17 / 315, 2 / 15, -1 / 3, 1.0)


def exact_function(call: Any, *, library: bool) -> Any:
    """Replace a call of a function of floating-point numbers by a more exact formula, if TVM's is not exact.

    ``library`` is whether the target has exact functions of its own in float32, which TVM then calls.
    """
    from tvm import tirx

    name = str(getattr(call.op, "name", ""))
    if name not in _WIDENED or not is_float(call):
        return call
    if element(call) in _HALVES:
        wide = [widened(each) for each in call.args]
        return tirx.Cast(call.ty, exact_function(tirx.call_intrin(wide[0].ty, name, *wide), library=library))
    if name == "tirx.tanh" and not library:
        return bind([call.args[0]], _tanh)
    if name == "tirx.atanh" and not library:
        return bind([call.args[0]], _atanh)
    return _log(call) if name == "tirx.log" else call


def _tanh(x: Any) -> Any:
    from tvm import tirx

    square, series = x * x, constant(0, x)
    for factor in _TANH:
        series = series * square + constant(factor, x)
    near = tirx.abs(x) < constant(_SERIES_BELOW[element(x)], x)
    return tirx.Select(near, x * series, tirx.tanh(x))


def _atanh(x: Any) -> Any:
    from tvm import tirx

    one, two = constant(1, x), constant(2, x)
    size = tirx.abs(x)
    half = bind([two * size / (one - size)], _log_of_one_and) / two
    return tirx.Select(x < constant(0, x), -half, half)


def _log_of_one_and(x: Any) -> Any:
    """Return log(1 + x), exact near 0.

    D. Goldberg, What every computer scientist should know about floating-point arithmetic, 1991, theorem 4.
    """
    from tvm import tirx

    one = constant(1, x)

    def correct(total: Any) -> Any:
        log = tirx.log(total)
        exact = tirx.Select(tirx.EQ(total, one), x, log * (x / (total - one)))
        return tirx.Select(x < one, exact, log)

    return bind([one + x], correct)


def _log(call: Any) -> Any:
    """The logarithm of 1 + x, as in Softplus and Mish."""
    from tvm import tirx

    total = call.args[0]
    if isinstance(total, tirx.Add):
        for one, x in ((total.a, total.b), (total.b, total.a)):
            if value_of(one) == 1:
                return bind([x], _log_of_one_and)
    return call
