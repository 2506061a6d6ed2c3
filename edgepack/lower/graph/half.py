"""Legalization rules that sum float16 and bfloat16 in float32.

TVM sums in the data's own type; in float16, a sum of ones stops at 2,048, in bfloat16 at 256. onnxruntime sums in float32.
Only sums change here: tensors between kernels keep their type.
"""

from collections.abc import Callable, Sequence
from typing import Any

Rule = Callable[[Any, Any], Any]

_HALVES = {"float16", "bfloat16"}

# Products: TVM multiplies and sums in ``out_dtype``, inside the kernel.
_CONVOLUTIONS = tuple(f"conv{rank}d{kind}" for kind in ("", "_transpose") for rank in (1, 2, 3))
_CONVOLUTION_FIELDS = (
    "strides",
    "padding",
    "output_padding",
    "dilation",
    "groups",
    "data_layout",
    "kernel_layout",
    "out_layout",
)
# Sums of elements: converted inside the kernel, before and after.
_SUMS = (
    "mean",
    "nn.adaptive_avg_pool1d",
    "nn.adaptive_avg_pool2d",
    "nn.adaptive_avg_pool3d",
    "nn.avg_pool1d",
    "nn.avg_pool2d",
    "nn.avg_pool3d",
    "nn.log_softmax",
    "nn.softmax",
    "prod",
    "std",
    "sum",
    "variance",
)


def half_legalizations() -> dict[str, Rule]:
    """Return the rules, by operator; for other types they are TVM's own."""
    rules = {"relax.matmul": _matmul} | {f"relax.nn.{name}": _convolution for name in _CONVOLUTIONS}
    return rules | {f"relax.{name}": _sum for name in _SUMS}


def _matmul(builder: Any, call: Any) -> Any:
    from tvm import relax

    if not _is_half(call):
        return _tvms_rule(builder, call)
    return _narrowed(builder, call, relax.op.matmul(*call.args, out_dtype="float32"))


def _convolution(builder: Any, call: Any) -> Any:
    from tvm import relax

    if not _is_half(call):
        return _tvms_rule(builder, call)
    fields = {name: getattr(call.attrs, name) for name in _CONVOLUTION_FIELDS if hasattr(call.attrs, name)}
    convolution = getattr(relax.op.nn, call.op.name.removeprefix("relax.nn."))
    return _narrowed(builder, call, convolution(*call.args, **fields, out_dtype="float32"))


def _sum(builder: Any, call: Any) -> Any:
    return _tvms_rule(_Widening(builder, _kind(call)) if _is_half(call) else builder, call)


class _Widening:
    """A block builder for TVM's rules that wraps their computation in conversions to float32 and back."""

    def __init__(self, builder: Any, kind: str) -> None:
        self._builder, self._kind = builder, kind

    def call_te(self, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
        from tvm import topi

        def compute(*args: Any, **named: Any) -> Any:
            wide = {name: _widened(value) for name, value in named.items()}
            return topi.cast(function(*map(_widened, args), **wide), self._kind)

        named.setdefault("primfunc_name_hint", getattr(function, "__name__", "sum"))
        return self._builder.call_te(compute, *args, **named)


def _widened(value: Any) -> Any:
    from tvm import te, topi

    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_widened(each) for each in value]
    half = isinstance(value, te.Tensor) and str(value.dtype) in _HALVES
    return topi.cast(value, "float32") if half else value


def _is_half(call: Any) -> bool:
    return _kind(call) in _HALVES


def _kind(call: Any) -> str:
    return str(getattr(call.ty, "dtype", ""))


def _tvms_rule(builder: Any, call: Any) -> Any:
    import tvm

    return tvm.ir.Op.get(call.op.name).get_attr("FLegalize")(builder, call)


def _narrowed(builder: Any, call: Any, wide: Any) -> Any:
    """Legalize the call's wide form, whose result is float32, and round the result to the call's type."""
    from tvm import topi

    result = builder.emit(_tvms_rule(builder, builder.normalize(wide)))
    return builder.call_te(topi.cast, result, _kind(call), primfunc_name_hint="narrow")
