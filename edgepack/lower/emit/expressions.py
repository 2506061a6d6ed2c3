"""Helpers for expressions of TIR, of any number of lanes."""

from collections.abc import Callable, Sequence
from typing import Any


def element(node: Any) -> str:
    """Return the element type of an expression."""
    return str(node.ty.dtype).partition("x")[0]


def like(kind: str, node: Any) -> str:
    """Return the type with these elements and as many lanes as the expression."""
    _, x, lanes = str(node.ty.dtype).partition("x")
    return f"{kind}{x}{lanes}"


def is_float(node: Any) -> bool:
    """Whether it is a floating-point number (not one of 8 bits, which are computed as wider ones)."""
    kind = getattr(getattr(node, "ty", None), "dtype", None)
    return kind is not None and str(kind).partition("x")[0] in {"float16", "bfloat16", "float32", "float64"}


def constant(value: float, node: Any) -> Any:
    """Return a constant of the expression's type."""
    from tvm import tirx

    return tirx.const(value, str(node.ty.dtype))


def value_of(node: Any) -> float | None:
    """Return the value of a constant, which is the same in all lanes; None if it is none."""
    from tvm import tirx

    single = node.value if isinstance(node, tirx.Broadcast) else node
    return single.value if isinstance(single, (tirx.FloatImm, tirx.IntImm)) else None


def is_constant(node: Any) -> bool:
    """Whether it is a number, or the same number in all lanes."""
    return value_of(node) is not None


def bind(values: Sequence[Any], function: Callable[..., Any]) -> Any:
    """Return a function of values in which each is computed once."""
    from tvm import ir, tirx

    names = [
        value if isinstance(value, ir.Var) or is_constant(value) else tirx.Var("part", value.ty)
        for value in values
    ]
    result = function(*names)
    for name, value in zip(reversed(names), reversed(values), strict=True):
        if not name.same_as(value):
            result = tirx.Let(name, value, result)
    return result


def widened(value: Any) -> Any:
    """Return the value as float32."""
    from tvm import tirx

    return tirx.Cast(like("float32", value), value)
