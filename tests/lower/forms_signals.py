"""Forms of resizing, of spectra, and of quantization."""

from collections.abc import Iterator
from itertools import product

import numpy as np
from forms import FLOATS, Fixed, Form, ints, scalar, some

EMPTY = Fixed(np.zeros(0, "float32"))
MODES = ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric")


def floats(*values: float) -> Fixed:
    """Return a constant of float32 with one axis."""
    return Fixed(np.array(values, "float32"))


def resize(x=None, roi=None, scales=None, sizes=None, opset=19, **attributes):
    """Return Resize of an image, without inputs that are omitted at its end."""
    given = [some("float32", 1, 2, 5, 6) if x is None else x, roi, scales, sizes]
    while given[-1] is None:
        del given[-1]
    return Form("Resize", tuple(given), attributes, opset)


def resizes() -> Iterator[Form]:
    """Resize in every mode, by scales and sizes, with and without axes."""
    for how, mode in product(MODES, ("nearest", "linear", "cubic")):
        attributes = {"coordinate_transformation_mode": how, "mode": mode}
        for scales in ((1, 1, 2, 2), (1, 1, 0.6, 0.5), (1, 1, 1.7, 0.8)):
            yield resize(scales=floats(*scales), **attributes)
        for sizes in ((1, 2, 10, 9), (1, 2, 3, 4), (1, 2, 1, 1)):
            yield resize(sizes=ints(*sizes), **attributes)
    for rounding, how in product(("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"), MODES[:3]):
        attributes = {"coordinate_transformation_mode": how, "nearest_mode": rounding, "mode": "nearest"}
        yield resize(scales=floats(1, 1, 2, 3), **attributes)
        yield resize(sizes=ints(1, 2, 3, 8), **attributes)
    for mode in ("nearest", "linear", "cubic"):
        yield resize(scales=EMPTY, roi=EMPTY, sizes=ints(1, 2, 10, 9), mode=mode, opset=13)
        yield resize(scales=EMPTY, sizes=ints(1, 2, 10, 9), mode=mode, opset=13)
        yield resize(scales=floats(1, 1, 2, 2), roi=EMPTY, mode=mode, opset=11)
        yield resize(scales=floats(1, 1, 2, 2), sizes=Fixed(np.zeros(0, "int64")), mode=mode, opset=13)
        yield resize(sizes=ints(10, 9), axes=[2, 3], mode=mode)
        yield resize(scales=floats(2, 1.5), axes=[3, 2], mode=mode)
        yield resize(sizes=ints(9, 10), axes=[-1, -2], mode=mode)
        yield resize(sizes=ints(9), axes=[3], mode=mode)
        for policy in ("not_larger", "not_smaller"):
            yield resize(sizes=ints(7, 8), axes=[2, 3], keep_aspect_ratio_policy=policy, mode=mode)
            yield resize(sizes=ints(3, 8), axes=[2, 3], keep_aspect_ratio_policy=policy, mode=mode)
        roi = floats(0, 0, 0.2, 0.3, 1, 1, 0.7, 1.1)
        crop = {"coordinate_transformation_mode": "tf_crop_and_resize", "mode": mode}
        yield resize(roi=roi, sizes=ints(1, 2, 4, 5), **crop)
        yield resize(roi=roi, sizes=ints(1, 2, 4, 5), extrapolation_value=10.0, **crop)
        yield resize(roi=floats(0.2, 0.3, 0.7, 1.1), sizes=ints(4, 5), axes=[2, 3], **crop)
        yield resize(roi=roi, scales=floats(1, 1, 0.8, 0.7), **crop)
    for mode, scale in product(("linear", "cubic"), (0.6, 2.0)):
        scales = floats(1, 1, scale, scale)
        yield resize(scales=scales, antialias=1, mode=mode)
        yield resize(sizes=ints(1, 2, 3, 4), antialias=1, mode=mode)
    for scale in (0.8, 2.0):
        scales = floats(1, 1, scale, scale)
        yield resize(scales=scales, mode="cubic", exclude_outside=1)
        yield resize(scales=scales, mode="cubic", cubic_coeff_a=-0.5)
        yield resize(scales=scales, mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1, antialias=1)
    yield from _other_resizes()


def _other_resizes() -> Iterator[Form]:
    """Other types, ranks and axes, and older opsets."""
    x = some("float32", 1, 2, 5, 6)
    for dtype in (*FLOATS[1:], "int8", "uint8", "int32"):
        yield resize(x=some(dtype, 1, 2, 4, 4), scales=floats(1, 1, 2, 2), mode="nearest")
    for dtype in (*FLOATS[1:], "uint8"):
        yield resize(x=some(dtype, 1, 2, 4, 4, low=0, high=90), scales=floats(1, 1, 2, 2), mode="linear")
    for dtype in ("uint8", "int8", "int32"):
        data = some(dtype, 1, 2, 5, 6, low=0, high=90)
        for mode in ("linear", "cubic"):
            yield resize(x=data, scales=floats(1, 1, 1.7, 0.8), mode=mode)
            yield resize(x=data, sizes=ints(9, 4), axes=[3, 2], mode=mode, antialias=1)
    for shape, scales in (
        ((7,), (2,)),
        ((4, 5), (2, 1.5)),
        ((2, 3, 7), (1, 1, 2)),
        ((1, 2, 3, 4, 5), (1, 1, 2, 2, 2)),
    ):
        for mode in ("nearest", "linear"):
            yield resize(x=some("float32", *shape), scales=floats(*scales), mode=mode)
    yield resize(scales=floats(2, 2, 1, 1), mode="nearest")
    yield resize(scales=floats(1, 2, 2, 1), mode="nearest")
    yield resize(x=some("float32", 1, 5, 6, 2), scales=floats(1, 2, 2, 1), mode="linear")
    yield resize(sizes=ints(2, 2, 5, 6), mode="nearest")
    for mode in ("nearest", "linear"):
        yield Form("Upsample", (x, floats(1, 1, 2, 3)), {"mode": mode}, 9)
        yield Form("Upsample", (x,), {"mode": mode, "scales": [1.0, 1.0, 2.0, 3.0]}, 7)
        yield Form("Resize", (x, floats(1, 1, 2, 3)), {"mode": mode}, 10)


def spectra() -> Iterator[Form]:
    """DFT and STFT with constant sizes."""
    real, pairs = some("float32", 1, 8, 3, 1), some("float32", 1, 8, 3, 2)
    for x, inverse, axis in product((real, pairs), (0, 1), (1, 2, -2)):
        yield Form("DFT", (x, None, scalar(axis, "int64")), {"inverse": inverse}, 20)
    for axis in (1, 2):
        yield Form("DFT", (real, None, scalar(axis, "int64")), {"onesided": 1}, 20)
    for length in (5, 8, 11):
        yield Form("DFT", (real, scalar(length, "int64"), scalar(1, "int64")), {}, 20)
        yield Form("DFT", (pairs, scalar(length, "int64"), scalar(1, "int64")), {"inverse": 1}, 20)
        yield Form("DFT", (real, scalar(length, "int64"), scalar(1, "int64")), {"onesided": 1}, 20)
        yield Form("DFT", (real, scalar(length, "int64")), {"axis": 1}, 17)
    yield Form("DFT", (real,), {"axis": 2}, 17)
    yield Form("DFT", (real,), {"axis": 1, "inverse": 1}, 17)
    yield Form("DFT", (real,), {}, 20)
    yield Form("DFT", (some("float64", 2, 6, 1), None, scalar(1, "int64")), {}, 20)
    yield Form("DFT", (some("float32", 2, 6, 1),), {"onesided": 1}, 17)
    signal = some("float32", 2, 32, 1)
    for dtype in ("float32", "float64"):
        for onesided in (0, 1):
            window = Fixed(some(dtype, 8, low=0.1, high=1))
            x = signal.astype(dtype)
            yield Form("STFT", (x, scalar(4, "int64"), window), {"onesided": onesided}, 17)
            yield Form(
                "STFT", (x, scalar(4, "int64"), window, scalar(8, "int64")), {"onesided": onesided}, 17
            )
            yield Form("STFT", (x, scalar(3, "int64"), None, scalar(10, "int64")), {"onesided": onesided}, 17)
    yield Form("STFT", (signal, scalar(4, "int64"), some("float32", 8), scalar(8, "int64")), {}, 17)
    yield Form(
        "STFT", (some("float32", 1, 32, 2), scalar(4, "int64"), None, scalar(8, "int64")), {"onesided": 0}, 17
    )


def quantization() -> Iterator[Form]:
    """Quantizing and dequantizing of every granularity, and integer operators."""
    x, image = some("float32", 4, 6, low=-9, high=9), some("float32", 1, 4, 3, 3, low=-9, high=9)
    for kind, dtype in product(("uint8", "int8", "uint16", "int16"), ("float32", "float16")):
        scale, zero = scalar(0.07, dtype), scalar(3, kind)
        yield Form("QuantizeLinear", (x.astype(dtype), scale, zero), {}, 21)
        yield Form("DequantizeLinear", (some(kind, 4, 6, low=-90, high=90), scale, zero), {}, 21)
    yield Form("DequantizeLinear", (some("int32", 4, 6, low=-900, high=900), scalar(0.07)), {}, 21)
    yield Form("DequantizeLinear", (some("int8", 4, 6), scalar(0.07)), {}, 21)
    yield Form("DequantizeLinear", (some("int8", 4, 6), scalar(0.07), None), {}, 21)
    yield Form("QuantizeLinear", (x, scalar(0.07)), {}, 21)
    yield Form("QuantizeLinear", (x, scalar(0.07), None), {}, 21)
    yield Form("QuantizeLinear", (x, scalar(0.07)), {"output_dtype": 3}, 21)
    yield Form("QuantizeLinear", (x, floats(0.07), ints(3, dtype="uint8")), {}, 21)
    for axis, size in ((0, 4), (1, 6), (-1, 6), (-2, 4)):
        scale, zero = Fixed(some("float32", size, low=0.1, high=0.4)), Fixed(some("int8", size))
        yield Form("QuantizeLinear", (x, scale, zero), {"axis": axis}, 21)
        yield Form("QuantizeLinear", (x, scale), {"axis": axis, "output_dtype": 3}, 21)
        yield Form("DequantizeLinear", (some("int8", 4, 6), scale, zero), {"axis": axis}, 21)
        yield Form("DequantizeLinear", (some("int8", 4, 6), scale), {"axis": axis}, 21)
    per_channel = Fixed(some("float32", 4, low=0.1, high=0.4)), Fixed(some("uint8", 4, high=9))
    yield Form("QuantizeLinear", (image, *per_channel), {}, 13)
    yield Form("DequantizeLinear", (some("uint8", 1, 4, 3, 3, high=90), *per_channel), {}, 13)
    for axis, block, shape in ((0, 2, (2, 6)), (1, 3, (4, 2)), (-1, 2, (4, 3)), (1, 4, (4, 2))):
        scale, zero = Fixed(some("float32", *shape, low=0.1, high=0.4)), Fixed(some("int8", *shape))
        attributes = {"axis": axis, "block_size": block}
        yield Form("DequantizeLinear", (some("int8", 4, 6), scale, zero), attributes, 21)
        yield Form("DequantizeLinear", (some("int8", 4, 6), scale), attributes, 21)
        yield Form("QuantizeLinear", (x, scale, zero), attributes, 21)
    yield Form("DynamicQuantizeLinear", (x,), {}, 11, 3)
    yield Form("DynamicQuantizeLinear", (some("float32", 5, low=1, high=9),), {}, 11, 3)
    yield Form("DynamicQuantizeLinear", (np.zeros(3, "float32"),), {}, 11, 3)
    yield from integer_products()


def integer_products() -> Iterator[Form]:
    """Products of quantized operands."""
    for a_kind, b_kind in product(("uint8", "int8"), ("uint8", "int8")):
        a, b = some(a_kind, 3, 4, low=-90, high=90), some(b_kind, 4, 5, low=-90, high=90)
        zeros = scalar(7, a_kind), scalar(3, b_kind)
        yield Form("MatMulInteger", (a, b))
        yield Form("MatMulInteger", (a, Fixed(b), *zeros))
        yield Form("MatMulInteger", (a, b, None, zeros[1]))
        yield Form("MatMulInteger", (a, Fixed(b), zeros[0], Fixed(some(b_kind, 5))))
        image, w = some(a_kind, 1, 2, 5, 5, low=-90, high=90), some(b_kind, 4, 2, 3, 3, low=-90, high=90)
        if a_kind == "uint8":
            yield Form("ConvInteger", (image, Fixed(w)), {"pads": [1] * 4})
            yield Form("ConvInteger", (image, Fixed(w), *zeros), {"pads": [1] * 4, "strides": [2, 2]})
        out = scalar(40.0), scalar(5, a_kind)
        yield Form("QLinearMatMul", (a, scalar(0.5), zeros[0], Fixed(b), scalar(0.7), zeros[1], *out), {}, 10)
        per_column = Fixed(some("float32", 5, low=0.2, high=0.9)), Fixed(some(b_kind, 5))
        yield Form("QLinearMatMul", (a, scalar(0.5), zeros[0], Fixed(b), *per_column, *out), {}, 10)
        given = (image, scalar(0.5), zeros[0], Fixed(w), scalar(0.7), scalar(0, b_kind), *out)
        bias = Fixed(some("int32", 4, low=-900, high=900))
        if (a_kind, b_kind) != ("int8", "uint8"):
            yield Form("QLinearConv", given, {"pads": [1] * 4})
            yield Form("QLinearConv", (*given, bias), {"strides": [2, 2]})
            per_channel = Fixed(some("float32", 4, low=0.2, high=0.9)), Fixed(np.zeros(4, b_kind))
            yield Form("QLinearConv", (*given[:4], *per_channel, *out, bias), {"group": 1})
            grouped = some(b_kind, 4, 1, 3, 3, low=-90, high=90)
            yield Form("QLinearConv", (*given[:3], Fixed(grouped), *given[4:]), {"group": 2})
