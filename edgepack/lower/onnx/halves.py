"""Operators of half precision that are imported in float32, with conversions before and after.

TVM's importer composes them of several operators, each of which would round to half precision, or sums in it. The
conversions become part of the kernels. Operators that are one operator in TVM sum in float32 inside their kernel
instead: ``edgepack.lower.graph.half``.
"""

from collections.abc import Sequence
from typing import Any

_HALVES = {"float16", "bfloat16"}

WIDENED = frozenset(
    {
        *("Celu", "Elu", "Gelu", "HardSigmoid", "HardSwish", "Mish", "Selu", "Softplus", "Softsign", "Swish"),
        *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"),
        *("GroupNormalization", "InstanceNormalization", "LRN", "LayerNormalization", "LpNormalization"),
        *("MeanVarianceNormalization", "RMSNormalization"),
        *("GlobalLpPool", "LpPool"),
        *("Attention", "CumSum", "Einsum", "Mean", "Sum"),
        *("AffineGrid", "GridSample", "Resize", "RoiAlign", "Upsample"),
    }
)
"""The operators; onnxruntime computes all of them in float32."""


def widen(operator: str, inputs: Any, builder: Any) -> Any | None:
    """Return a node's inputs in float32; None if they are used as they are."""
    if operator not in WIDENED or not len(inputs) or _kind(inputs[0]) not in _HALVES:
        return None
    return type(inputs)([_convert(value, "float32", builder) for value in inputs])


def narrow(output: Any, kinds: Sequence[str | None], builder: Any) -> Any:
    """Round a node's outputs to their element types; None where the type is unknown."""
    from tvm import relax

    output = builder.normalize(output)
    if not isinstance(output.ty, relax.TupleType):
        return _convert(output, kinds[0], builder)
    fields = [
        builder.normalize(relax.TupleGetItem(output, number)) for number in range(len(output.ty.fields))
    ]
    kinds = [*kinds, *[None] * len(fields)]
    return relax.Tuple([_convert(field, kind, builder) for field, kind in zip(fields, kinds, strict=False)])


def _convert(value: Any, kind: str | None, builder: Any) -> Any:
    """Convert a tensor of floating-point numbers; other values stay as they are."""
    from tvm import ir, relax

    if kind is None or "float" not in _kind(value) or _kind(value) == kind:
        return value
    if isinstance(value, ir.GenericConst):  # stays a constant, as converters ask
        return relax.const(value.value.numpy().astype(kind))
    return builder.normalize(relax.op.astype(value, kind))


def _kind(value: Any) -> str:
    from tvm import relax

    ty = getattr(value, "ty", None)
    return str(ty.dtype) if isinstance(ty, relax.TensorType) else ""
