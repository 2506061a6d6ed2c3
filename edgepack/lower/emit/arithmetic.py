"""Arithmetic that code generators leave open, or that differs between targets, defined as in onnxruntime on x86-64.

LLVM's and CUDA's maximum and minimum drop NaN, the conversion of a number out of range to an integer is undefined, and
an integer division by zero ends the process. After these passes

- maximum, minimum and what is made of them (Relu, Clip, pooling, reductions) keep NaN,
- NaN and numbers out of range become the smallest 32- or 64-bit integer; narrower types take its lowest bits,
- an integer divided by zero is 0, as is the remainder; the smallest integer divided by -1 stays itself,
- a shift by as many bits as there are, or by more, gives 0.

They run on the final TIR of the kernels, so that no schedule has to know of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

from edgepack.config.target import Target
from edgepack.lower.emit.expressions import bind, constant, element, is_constant, is_float, like, widened
from edgepack.lower.emit.functions import exact_function

PIPELINE = "edgepack"
"""The name of TVM's pipeline with these passes, once it is registered."""

Callbacks = Sequence[tuple[Any, Callable[[Any], Any]]]
"""Replacements by class of TIR node."""


def register(target: Target) -> str:
    """Register TVM's pipeline with these passes for the target; returns its name."""
    import tvm
    from tvm import ir
    from tvm.tirx import compilation_pipeline

    def factory() -> Any:
        pipeline, host, device = compilation_pipeline.get_tir_pipeline("default")
        functions = _pass([(ir.Call, exact_function)])
        on_host = _arithmetic(native=target.abi.arch == "aarch64")
        return (
            pipeline,
            lambda: tvm.ir.transform.Sequential([functions, host(), *on_host]),
            lambda: tvm.ir.transform.Sequential([functions, device(), *_arithmetic(native=False)]),
        )

    compilation_pipeline.register_tir_pipeline(PIPELINE, factory)
    return PIPELINE


def _arithmetic(*, native: bool) -> list[Any]:
    """Return the passes; ``native`` is whether the target has a maximum and minimum that keep NaN."""
    from tvm import ir, tirx

    def extreme(node: Any) -> Any:
        return _extreme(node, native=native)

    return [
        _pass([(tirx.Cast, _to_integer)]),  # before the extremes, as it recognises a number that is clamped
        _pass(
            [
                ((tirx.Max, tirx.Min), extreme),
                ((tirx.Div, tirx.Mod), _division),
                ((ir.prim.LShift, ir.prim.RShift), _shift),
            ]
        ),
    ]


def _pass(callbacks: Callbacks) -> Any:
    import tvm_ffi
    from tvm import tirx

    def transform(function: Any, _mod: Any, _context: Any) -> Any:
        body = tvm_ffi.structural_map(function.body, callbacks)
        return function if body.same_as(function.body) else function.with_body(body)

    return tirx.transform.prim_func_pass(transform, opt_level=0)


def _extreme(node: Any, *, native: bool) -> Any:
    """A maximum or minimum of floating-point numbers that is NaN if one of them is."""
    from tvm import tirx

    if not is_float(node):
        return node
    largest = isinstance(node, tirx.Max)
    if native:
        name = "llvm.maximum" if largest else "llvm.minimum"
        return tirx.call_llvm_pure_intrin(node.ty, name, node.a, node.b)
    further = tirx.GT if largest else tirx.LT
    a, b = (node.b, node.a) if is_constant(node.a) else (node.a, node.b)
    if is_constant(b):  # a comparison with NaN is false: one instruction on x86
        return bind([a], lambda a: tirx.Select(further(b, a), b, a))
    # The accumulator of a reduction comes first. A NaN in it stays, as it fails the comparison.
    return bind(
        [a, b],
        lambda a, b: tirx.Select(tirx.EQ(b, b), tirx.Select(further(b, a), b, a), b),
    )


def _to_integer(cast: Any) -> Any:
    """A conversion of a floating-point number to an integer, defined for all numbers."""
    from tvm import tirx

    kind, value = element(cast), cast.value
    if not is_float(value) or not kind.startswith(("int", "uint")):
        return cast
    if element(value) == "float16":
        value = widened(value)
    clamped = _clamped(value)
    if clamped is not None:
        return tirx.Cast(cast.ty, clamped)

    def convert(x: Any) -> Any:
        if kind not in {"uint32", "uint64"}:
            return _to_signed(x, "int64" if kind == "int64" else "int32")
        # The upper half of the range, which its signed type does not have.
        signed, half = kind[1:], 2.0 ** (int(kind[4:]) - 1)
        low = tirx.Cast(like(kind, x), _to_signed(x, signed))
        high = tirx.Cast(like(kind, x), _to_signed(x - constant(half, x), signed))
        flipped = tirx.BitwiseXor(high, tirx.const(2 ** (int(kind[4:]) - 1), like(kind, x)))
        return tirx.Select(x >= constant(half, x), flipped, low)

    return tirx.Cast(cast.ty, bind([value], convert))


def _to_signed(x: Any, kind: str) -> Any:
    from tvm import tirx

    limit = 2.0 ** (int(kind[3:]) - 1)
    valid = tirx.And(x >= constant(-limit, x), x < constant(limit, x))
    return tirx.Select(valid, tirx.Cast(like(kind, x), x), tirx.const(-int(limit), like(kind, x)))


def _clamped(value: Any) -> Any | None:
    """Return a number between two constants that is the lower one for NaN, as in QuantizeLinear; else None."""
    from tvm import tirx

    inner = getattr(value, "a", None)
    if isinstance(value, tirx.Max) and isinstance(inner, tirx.Min):
        low, high = value.b, inner.b
    elif isinstance(value, tirx.Min) and isinstance(inner, tirx.Max):
        low, high = inner.b, value.b
    else:
        return None
    if not (is_constant(low) and is_constant(high)):
        return None
    return bind(
        [inner.a],
        lambda x: bind(
            [tirx.Select(tirx.GT(x, low), x, low)],
            lambda lower: tirx.Select(tirx.LT(lower, high), lower, high),
        ),
    )


def _division(node: Any) -> Any:
    from tvm import tirx

    kind = element(node)
    if not kind.startswith(("int", "uint")) or is_constant(node.b):
        return node
    zero, one = tirx.const(0, node.ty), tirx.const(1, node.ty)

    def divide(a: Any, b: Any) -> Any:
        invalid = tirx.EQ(b, zero)
        if kind.startswith("int"):
            smallest = tirx.const(-(2 ** (int(kind[3:]) - 1)), node.ty)
            invalid = tirx.Or(invalid, tirx.And(tirx.EQ(b, tirx.const(-1, node.ty)), tirx.EQ(a, smallest)))
        safe = type(node)(a, tirx.Select(invalid, one, b))
        return tirx.Select(tirx.EQ(b, zero), zero, safe)

    return bind([node.a, node.b], divide)


def _shift(node: Any) -> Any:
    from tvm import tirx

    if is_constant(node.b):
        return node
    kind = element(node)
    bits = tirx.const(int(kind.lstrip("uint")), node.ty)
    return bind(
        [node.b], lambda b: tirx.Select(tirx.LT(b, bits), type(node)(node.a, b), tirx.const(0, node.ty))
    )
