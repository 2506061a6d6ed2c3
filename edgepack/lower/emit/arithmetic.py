"""Arithmetic that code generators leave open, or that differs between targets, defined as in onnxruntime on x86-64.

LLVM's and CUDA's maximum and minimum drop NaN, the conversion of a number out of range to an integer is undefined, and
an integer division by zero ends the process. After these passes

- maximum, minimum and what is made of them (Relu, Clip, pooling, reductions) keep NaN,
- NaN and numbers out of range become the smallest int64 for int64 and uint32, the smallest int32 for int32 and narrower
  types, which take the lowest bits,
- an integer divided by zero is 0, as is the remainder; the smallest integer divided by -1 stays itself,
- a shift by as many bits as there are, or by more, gives 0,
- a conversion to bfloat16 rounds to nearest, ties to even, wherever it is: TVM computes bfloat16 in float32, and rounds
  only what it stores.

They run on the final TIR of the kernels, so that no schedule has to know of them.
"""

from collections.abc import Callable, Sequence
from functools import partial
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
    from tvm.tirx import compilation_pipeline

    def factory() -> Any:
        pipeline, host, device = compilation_pipeline.get_tir_pipeline("default")
        before, after = host_passes(target)
        return (
            tvm.ir.transform.Sequential([*first_passes(), pipeline]),
            lambda: tvm.ir.transform.Sequential([*before, host(), *after]),
            lambda: tvm.ir.transform.Sequential(
                [_functions(library=True), device(), *_arithmetic(native=False)]
            ),
        )

    compilation_pipeline.register_tir_pipeline(PIPELINE, factory)
    return PIPELINE


def first_passes() -> list[Any]:
    """Return the passes that run before all others."""
    from tvm import tirx

    return [_pass([(tirx.Cast, _to_bfloat16)])]


def host_passes(target: Target) -> tuple[list[Any], list[Any]]:
    """Return the passes for kernels on a CPU that run before TVM's last ones, and after them."""
    return [_functions(library=False)], _arithmetic(native=target.abi.arch == "aarch64")


def _functions(*, library: bool) -> Any:
    from tvm import ir

    return _pass([(ir.Call, partial(exact_function, library=library))])


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


def _to_bfloat16(cast: Any) -> Any:
    """The number as float32 whose lower half is 0, which TVM's own conversion keeps.

    Nothing is bound to a variable here, since loops are vectorised later; LLVM computes each part once.
    """
    from tvm import ir, tirx

    if element(cast) != "bfloat16" or not is_float(cast.value) or element(cast.value) == "bfloat16":
        return cast
    x = cast.value if element(cast.value) == "float32" else widened(cast.value)

    def bits_of(value: int) -> Any:
        return tirx.const(value, like("uint32", x))

    bits = tirx.reinterpret(like("uint32", x), x)
    odd = ir.prim.BitwiseAnd(ir.prim.RShift(bits, bits_of(16)), bits_of(1))
    whole = bits + bits_of(0x7FFF) + odd  # ties to even
    quiet = ir.prim.BitwiseOr(bits, bits_of(0x400000))
    nan = ir.prim.BitwiseAnd(bits, bits_of(0x7FFFFFFF)) > bits_of(0x7F800000)
    rounded = ir.prim.BitwiseAnd(tirx.Select(nan, quiet, whole), bits_of(0xFFFF0000))
    return tirx.Cast(cast.ty, tirx.reinterpret(str(x.ty.dtype), rounded))


def _to_integer(cast: Any) -> Any:
    """A conversion of a floating-point number to an integer, defined for all numbers."""
    from tvm import ir, tirx

    kind, value = element(cast), cast.value
    if not is_float(value) or not kind.startswith(("int", "uint")):
        return cast
    if element(value) == "float16":
        value = widened(value)
    clamped = _clamped(value)
    if clamped is not None:
        return tirx.Cast(cast.ty, clamped)

    def convert(x: Any) -> Any:
        if kind != "uint64":
            return _to_signed(x, "int64" if kind in {"int64", "uint32"} else "int32")
        # The upper half of the range, which the signed type does not have.
        half = constant(2.0**63, x)
        high = tirx.Cast(like(kind, x), _to_signed(x - half, "int64"))
        flipped = ir.prim.BitwiseXor(high, tirx.const(2**63, like(kind, x)))
        return tirx.Select(x >= half, flipped, tirx.Cast(like(kind, x), _to_signed(x, "int64")))

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
    if kind == "float16" and isinstance(node, tirx.Mod):  # CUDA has none
        return tirx.Cast(node.ty, tirx.Mod(widened(node.a), widened(node.b)))
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
