"""Forms of convolutions and pools."""

from collections.abc import Iterator

from forms import FLOATS, Fixed, Form, ints, some

SIZES = {1: (9,), 2: (7, 8), 3: (5, 6, 4)}


def convolutions() -> Iterator[Form]:
    """Conv and ConvTranspose of every rank."""
    for dtype in FLOATS:
        yield Form("Conv", (some(dtype, 1, 3, 6, 6), Fixed(some(dtype, 4, 3, 3, 3)), Fixed(some(dtype, 4))))
        yield Form(
            "ConvTranspose", (some(dtype, 1, 3, 4, 4), Fixed(some(dtype, 3, 2, 3, 3)), Fixed(some(dtype, 2)))
        )
    for rank, sizes in SIZES.items():
        x, w, b = some("float32", 2, 4, *sizes), some("float32", 6, 4, *[3] * rank), some("float32", 6)
        grouped, alone = some("float32", 6, 2, *[3] * rank), some("float32", 8, 1, *[2] * rank)
        forms = (
            ({}, w),
            ({"pads": [1] * 2 * rank}, w),
            ({"pads": [1] * rank + [0] * rank, "strides": [2] * rank}, w),
            ({"dilations": [2] * rank, "pads": [2] * 2 * rank}, w),
            ({"group": 2}, grouped),
            ({"group": 4, "pads": [1] * 2 * rank}, alone),
            ({"auto_pad": "SAME_UPPER", "strides": [2] * rank}, w),
            ({"auto_pad": "SAME_LOWER", "strides": [2] * rank}, w),
            ({"auto_pad": "SAME_LOWER"}, alone[:, :, ...].repeat(4, 1)[:6]),
            ({"auto_pad": "VALID", "kernel_shape": [3] * rank}, w),
            ({"auto_pad": "NOTSET", "pads": [0] * 2 * rank}, w),
        )
        for attributes, weight in forms:
            yield Form("Conv", (x, Fixed(weight)), attributes)
        yield Form("Conv", (x, Fixed(w), Fixed(b)))
        yield Form("Conv", (x, w, b))
        yield Form("Conv", (x, Fixed(w), None))
        yield Form(
            "Conv", (some("float32", 1, 4, *[3] * rank), Fixed(w)), {"strides": list(range(1, rank + 1))}
        )
        t, tg = some("float32", 4, 3, *[3] * rank), some("float32", 4, 2, *[3] * rank)
        small = some("float32", 2, 4, *[size - 2 for size in sizes])
        for attributes, weight in (
            ({}, t),
            ({"strides": [2] * rank}, t),
            ({"strides": [2] * rank, "pads": [1] * 2 * rank}, t),
            ({"strides": [2] * rank, "pads": [1] * 2 * rank, "output_padding": [1] * rank}, t),
            ({"strides": [2] * rank, "pads": [1] * rank + [0] * rank}, t),
            ({"dilations": [2] * rank}, t),
            ({"dilations": [2] * rank, "strides": [3] * rank}, t),
            ({"group": 2}, tg),
            ({"group": 2, "strides": [2] * rank}, tg),
            ({"group": 4}, t),
            ({"strides": [2] * rank, "output_shape": [2 * (size - 2) for size in sizes]}, t),
            ({"strides": [2] * rank, "output_shape": [2 * (size - 2) + 1 for size in sizes]}, t),
            (
                {
                    "strides": [3] * rank,
                    "output_shape": [3 * (size - 2) - 1 for size in sizes],
                    "auto_pad": "SAME_LOWER",
                },
                t,
            ),
            ({"auto_pad": "SAME_UPPER", "strides": [2] * rank}, t),
            ({"auto_pad": "SAME_LOWER", "strides": [2] * rank}, t),
            ({"auto_pad": "VALID", "strides": [2] * rank}, t),
        ):
            yield Form("ConvTranspose", (small, Fixed(weight)), attributes)
        yield Form("ConvTranspose", (small, t, some("float32", 3)))


def pools() -> Iterator[Form]:
    """Pooling of every rank and kind, locally and over everything."""
    for rank, sizes in SIZES.items():
        x = some("float32", 2, 3, *sizes)
        k, ones = [3] * rank, [1] * 2 * rank
        variants = (
            {"kernel_shape": k},
            {"kernel_shape": k, "strides": [2] * rank},
            {"kernel_shape": k, "strides": [2] * rank, "pads": ones},
            {"kernel_shape": k, "strides": [2] * rank, "pads": [1] * rank + [0] * rank},
            {"kernel_shape": k, "strides": [2] * rank, "ceil_mode": 1},
            {"kernel_shape": k, "strides": [2] * rank, "pads": ones, "ceil_mode": 1},
            {"kernel_shape": k, "auto_pad": "SAME_UPPER", "strides": [2] * rank},
            {"kernel_shape": k, "auto_pad": "SAME_LOWER", "strides": [2] * rank},
            {"kernel_shape": k, "auto_pad": "VALID", "strides": [2] * rank},
            {"kernel_shape": [2] * rank, "strides": [3] * rank, "ceil_mode": 1},
        )
        for attributes in variants:
            yield Form("MaxPool", (x,), attributes)
            yield Form("AveragePool", (x,), attributes)
            yield Form("AveragePool", (x,), {**attributes, "count_include_pad": 1})
            yield Form("LpPool", (x,), attributes)
        for name in ("MaxPool", "AveragePool", "LpPool"):
            yield Form(name, (x,), {"kernel_shape": [2] * rank, "dilations": [2] * rank})
            yield Form(name, (x,), {"kernel_shape": [2] * rank, "dilations": [2] * rank, "pads": ones})
        yield Form(
            "AveragePool",
            (x,),
            {"kernel_shape": [2] * rank, "dilations": [2] * rank, "pads": ones, "count_include_pad": 1},
        )
        yield Form("LpPool", (x,), {"kernel_shape": k, "p": 1})
        yield Form("LpPool", (x,), {"kernel_shape": k, "p": 3, "pads": ones})
        for name in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
            yield Form(name, (x,), {}, 18)
        yield Form("GlobalLpPool", (x,), {"p": 3}, 18)
        yield Form("MaxPool", (x,), {"kernel_shape": k}, outputs=2)
        yield Form(
            "MaxPool",
            (x,),
            {"kernel_shape": k, "pads": ones, "strides": [2] * rank, "storage_order": 1},
            outputs=2,
        )
        yield Form("MaxPool", (x,), {"kernel_shape": k, "storage_order": 1})
    for dtype in ("float16", "float64", "int8", "uint8"):
        yield Form("MaxPool", (some(dtype, 1, 2, 6, 6),), {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1]})
    for dtype in ("float16", "float64"):
        for name in ("AveragePool", "LpPool"):
            yield Form(name, (some(dtype, 1, 2, 6, 6),), {"kernel_shape": [2, 2]})
        for name in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
            yield Form(name, (some(dtype, 1, 2, 6, 6),), {}, 18)
    yield Form(
        "MaxPool", (some("float32", 1, 1, 4, 4, low=-9, high=-1),), {"kernel_shape": [3, 3], "pads": [1] * 4}
    )
    yield Form("AveragePool", (some("float32", 1, 1, 4, 5),), {"kernel_shape": [2, 3], "strides": [1, 2]})


def unpooled() -> Iterator[Form]:
    """Operators around pooling and columns."""
    import numpy as np

    x = some("float32", 1, 1, 2, 2)
    at = np.array([[[[5, 7], [13, 15]]]])
    k = {"kernel_shape": [2, 2], "strides": [2, 2]}
    yield Form("MaxUnpool", (x, at), k)
    yield Form("MaxUnpool", (x, Fixed(at)), k)
    yield Form("MaxUnpool", (x, at, ints(1, 1, 5, 5)), k)
    yield Form(
        "MaxUnpool",
        (some("float32", 1, 2, 3), np.array([[[1, 2, 5], [7, 8, 11]]])),
        {"kernel_shape": [2], "strides": [2]},
    )
    yield Form("Col2Im", (some("float32", 1, 5, 5), ints(5, 5), ints(1, 5)))
    yield Form(
        "Col2Im", (some("float32", 1, 9, 4), ints(6, 6), ints(3, 3)), {"strides": [2, 2], "dilations": [1, 1]}
    )
    yield Form(
        "Col2Im",
        (some("float32", 2, 8, 12), ints(5, 5), ints(2, 2)),
        {"pads": [0, 1, 0, 1], "strides": [2, 1]},
    )
    yield Form("Col2Im", (some("float32", 1, 10, 12), ints(3, 4, 5), ints(1, 1, 5)), {})
    rois = Fixed(np.array([[0, 0, 0, 3, 3], [0, 1, 1, 3, 2]], "float32"))
    yield Form("MaxRoiPool", (some("float32", 1, 2, 5, 5), rois), {"pooled_shape": [2, 2]})
    boxes, batch = np.array([[0, 0, 3, 3], [1, 1, 4.5, 3.5]], "float32"), np.array([0, 1])
    for mode in ("avg", "max"):
        for how in ("half_pixel", "output_half_pixel"):
            for ratio in (0, 2):
                attributes = {"output_height": 2, "output_width": 3, "sampling_ratio": ratio, "mode": mode}
                attributes |= {"coordinate_transformation_mode": how, "spatial_scale": 0.8}
                yield Form("RoiAlign", (some("float32", 2, 2, 5, 6), boxes, batch), attributes, 16)
    x, grid = some("float32", 2, 2, 4, 5), some("float32", 2, 3, 3, 2, low=-1.2, high=1.2)
    for mode in ("linear", "nearest", "cubic"):
        for padding in ("zeros", "border", "reflection"):
            for corners in (0, 1):
                attributes = {"mode": mode, "padding_mode": padding, "align_corners": corners}
                yield Form("GridSample", (x, grid), attributes)
    volume, cube = some("float32", 1, 2, 3, 4, 5), some("float32", 1, 2, 2, 2, 3, low=-1.2, high=1.2)
    for mode in ("linear", "nearest"):
        yield Form("GridSample", (volume, cube), {"mode": mode})
    yield Form("GridSample", (x, grid), {"mode": "bilinear"}, 16)
    yield Form("GridSample", (x, grid), {"mode": "bicubic"}, 16)
    for corners in (0, 1):
        yield Form("AffineGrid", (some("float32", 2, 2, 3), ints(2, 3, 4, 5)), {"align_corners": corners})
        yield Form("AffineGrid", (some("float32", 1, 3, 4), ints(1, 2, 2, 3, 4)), {"align_corners": corners})
    offset = some("float32", 1, 8, 3, 3, low=-0.7, high=0.7)
    given = (some("float32", 1, 2, 4, 4), Fixed(some("float32", 3, 2, 2, 2)), offset)
    yield Form("DeformConv", given, {"kernel_shape": [2, 2]})
