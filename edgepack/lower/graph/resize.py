"""Nearest-neighbour resizing on a GPU: its indices in integers.

TVM computes them in float32: ``ceil((x + 0.5) * scale - 1)``. CUDA's compiler fuses the product and the sum, so that a
position just between two pixels is rounded up by an error in the scale's last bit, which separate rounding hides.
"""

from typing import Any

_ROUNDED = {"round_prefer_floor", "round_prefer_ceil"}  # for the others, TVM adds a margin


def resize(builder: Any, call: Any) -> Any:
    """Legalize ``relax.image.resize2d`` and ``resize3d``."""
    import tvm
    from tvm import te, tirx

    attrs, target = call.attrs, tvm.target.Target.current(allow_none=True)
    shapes = [list(each.ty.shape) for each in (call.args[0], call)]
    mode = str(attrs.coordinate_transformation_mode)
    ours = (
        target is not None
        and target.kind.name == "cuda"
        and str(attrs.method) == "nearest_neighbor"
        and str(attrs.rounding_method) in _ROUNDED
        and str(attrs.layout) in {"NCHW", "NCDHW"}
        and all(isinstance(extent, tirx.IntImm) for shape in shapes for extent in shape)
    )
    before, after = ([int(extent) for extent in shape[2:]] for shape in shapes) if ours else ([], [])
    ours = ours and all(_fraction(mode, 0, *sizes) is not None for sizes in zip(before, after, strict=True))
    if not ours:
        return tvm.ir.Op.get(call.op.name).get_attr("FLegalize")(builder, call)

    def source(position: Any, size: int, resized: int) -> Any:
        numerator, denominator = _fraction(mode, position, size, resized)  # type: ignore[misc] # checked above
        if attrs.rounding_method == "round_prefer_ceil":
            nearest = tirx.floordiv(2 * numerator + denominator, 2 * denominator)
        else:
            nearest = -tirx.floordiv(denominator - 2 * numerator, 2 * denominator)
        return tirx.max(tirx.min(nearest, size - 1), 0)

    def compute(x: Any) -> Any:
        def element(n: Any, c: Any, *at: Any) -> Any:
            return x(n, c, *(source(*each) for each in zip(at, before, after, strict=True)))

        return te.compute((x.shape[0], x.shape[1], *after), element, name="resize")

    return builder.call_te(compute, call.args[0], primfunc_name_hint=call.op.name.rpartition(".")[2])


def _fraction(mode: str, position: Any, size: int, resized: int) -> tuple[Any, int] | None:
    """Return numerator and denominator of the position in the data; None if the mode has another formula."""
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and resized > 1):
        return (2 * position + 1) * size - resized, 2 * resized
    if mode == "asymmetric":
        return position * size, resized
    if mode == "align_corners" and resized > 1:
        return position * (size - 1), resized - 1
    return None
