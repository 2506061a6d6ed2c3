"""Forms of operators that move, repeat, select and write elements."""

# ruff: noqa: C901, PLR0912 - lists of forms, in loops

from collections.abc import Iterator

import numpy as np
from forms import FLOATS, NUMBERS, SHAPES, Fixed, Form, ints, over, scalar, some

KINDS = (*NUMBERS, "bool")
X = some("float32", 2, 3, 4)


def views() -> Iterator[Form]:
    """Changes of the shape alone."""
    for dtype in KINDS:
        x = some(dtype, 2, 3, 4)
        yield Form("Reshape", (x, ints(4, 6)))
        yield Form("Flatten", (x,))
        yield Form("Squeeze", (some(dtype, 1, 3, 1), ints(0)))
        yield Form("Unsqueeze", (x, ints(0, -1)))
        yield Form("Transpose", (x,))
    for shape in ((-1,), (0, -1), (0, 0, 2, 2), (2, 0, -1), (1, 1, 24), (4, -1, 1)):
        yield Form("Reshape", (X, ints(*shape)))
    yield Form("Reshape", (X, ints(2, 3, 4)), {"allowzero": 1})
    yield Form("Reshape", (some("float32"), ints(1, 1)))
    yield Form("Reshape", (some("float32", 1), Fixed(np.zeros(0, "int64"))))
    for axis in (-3, -2, -1, 0, 1, 2, 3):
        yield Form("Flatten", (X,), {"axis": axis})
    for shape in SHAPES[:4]:
        yield Form("Flatten", (some("float32", *shape),), {"axis": 0})
    single = some("float32", 1, 3, 1, 2, 1)
    for axes in ((0,), (-1,), (0, 2), (-5, -1, 2), (2, 0)):
        yield Form("Squeeze", (single, ints(*axes)))
    yield Form("Squeeze", (single,))
    yield Form("Squeeze", (single, None))
    yield Form("Squeeze", (single, ints()))
    yield Form("Squeeze", (some("float32", 1),))
    yield Form("Squeeze", (single,), {"axes": [0, 2]}, 11)
    yield Form("Unsqueeze", (X,), {"axes": [0, 3]}, 11)
    for axes in ((0,), (-1,), (0, 2), (3, 0), (-1, 0, 2)):
        yield Form("Unsqueeze", (X, ints(*axes)))
    yield Form("Unsqueeze", (some("float32"), ints(0)))
    yield Form("Unsqueeze", (some("float32"), ints(1, 0)))
    yield Form("Unsqueeze", (X, ints()))
    yield Form("Unsqueeze", (X, Fixed(np.array(1))))
    for perm in ((0, 1, 2), (2, 0, 1), (1, 0, 2)):
        yield Form("Transpose", (X,), {"perm": perm})
    for shape in SHAPES:
        yield Form("Transpose", (some("float32", *shape),))
        for name in ("Shape", "Size"):
            yield Form(name, (some("float32", *shape),))
    for start, end in ((1, None), (0, -1), (-2, None), (-9, 9), (2, 1), (1, 2)):
        attributes = {"start": start} | ({} if end is None else {"end": end})
        yield Form("Shape", (X,), attributes)
    for mode in ("DCR", "CRD"):
        for dtype in ("float32", "float16", "float64", "uint8", "int32"):
            yield Form("DepthToSpace", (some(dtype, 2, 8, 2, 3),), {"blocksize": 2, "mode": mode})
    yield Form("DepthToSpace", (some("float32", 1, 9, 1, 2),), {"blocksize": 3})
    for dtype in ("float32", "float16", "float64", "uint8", "int32"):
        yield Form("SpaceToDepth", (some(dtype, 2, 2, 4, 6),), {"blocksize": 2})


def repeats() -> Iterator[Form]:
    """Concat, Split, Slice, Expand, Tile, Pad, and patterns."""
    for dtype in KINDS:
        x = some(dtype, 2, 3)
        yield Form("Concat", (x, x, some(dtype, 1, 3)), {"axis": 0})
        yield Form("Expand", (x, ints(4, 1, 3)))
        yield Form("Tile", (x, ints(2, 3)))
        yield Form("Split", (x,), {"axis": 1, "num_outputs": 3}, 18, 3)
        yield Form("Slice", (x, ints(0), ints(2), ints(1)))
        yield Form("Pad", (x, ints(0, 1, 2, 0), scalar(1, dtype)))
        yield Form("Trilu", (x,))
    for axis in (-2, -1, 1):
        yield Form("Concat", (X, X), {"axis": axis})
    yield Form("Concat", (X,), {"axis": 0})
    yield Form("Concat", (some("float32", 2), Fixed(some("float32", 3))), {"axis": 0})
    for shape in ((1,), (3, 4), (2, 1, 1), (5, 2, 3, 4), (1, 1, 1, 1)):
        yield Form("Expand", (X, ints(*shape)))
    yield Form("Expand", (some("float32"), ints(2, 3)))
    yield Form("Expand", (some("float32", 3, 1), ints(1, 4)))
    yield Form("Expand", (some("float32"), Fixed(np.zeros(0, "int64"))))
    for repeats in ((1, 1, 1), (2, 1, 3)):
        yield Form("Tile", (X, ints(*repeats)))
    yield Form("Tile", (some("float32", 3), ints(4)))
    for sizes in ((1, 2), (2, 1)):
        yield Form("Split", (X, ints(*sizes)), {"axis": 1}, outputs=2)
    yield Form("Split", (X, ints(1, 3)), {"axis": -1}, outputs=2)
    yield Form("Split", (some("float32", 2, 7),), {"axis": 1, "num_outputs": 3}, 18, 3)
    yield Form("Split", (X,), {"axis": 0, "num_outputs": 1}, 18, 1)
    yield Form("Split", (X,), {"axis": 1}, 13, 3)
    yield Form("Split", (X,), {"axis": 2, "split": [1, 3]}, 11, 2)
    yield Form("Split", (some("float32", 7), ints(3, 4)), {}, 13, 2)
    yield from slices()
    yield from pads()
    for k in (-1, 0, 1, 5, -5):
        for upper in (0, 1):
            yield Form("Trilu", (X, scalar(k, "int64")), {"upper": upper})
    yield Form("Trilu", (some("int64", 3, 3), None), {"upper": 0})
    for dtype in ("float32", "int32", "int64", "float64", "float16", "uint8", "bool"):
        yield Form("EyeLike", (some(dtype, 3, 4),))
        yield Form("EyeLike", (some("int32", 3, 4),), {"dtype": 1})
        yield Form("EyeLike", (some(dtype, 3, 4),), {"k": 1})
    yield Form("EyeLike", (some("float32", 3, 4),), {"k": -2, "dtype": 7})
    yield Form("CenterCropPad", (some("float32", 5, 6), ints(3, 8)))
    yield Form("CenterCropPad", (some("int32", 5, 7), ints(8, 4)))
    yield Form("CenterCropPad", (some("float32", 5, 6, 3), ints(3)), {"axes": [1]})
    yield Form("CenterCropPad", (some("float32", 5, 6, 3), ints(3, 4)), {"axes": [-3, -1]})


def slices() -> Iterator[Form]:
    """Slices with all kinds of bounds."""
    x = some("float32", 5, 6, 7)
    for starts, ends, axes, steps in (
        ((1,), (4,), (0,), (1,)),
        ((-3,), (-1,), (2,), None),
        ((0, 1), (5, 5), None, None),
        ((1, 0), (100, 3), (2, 0), (2, 1)),
        ((-1,), (-100,), (1,), (-1,)),
        ((4,), (0,), (0,), (-2,)),
        ((0, 0, 0), (5, 6, 7), (0, 1, 2), (3, 2, 1)),
        ((100,), (2,), (-1,), (-1,)),
        ((0,), (2**31 - 1,), (1,), (1,)),
        ((0,), (2**63 - 1,), (1,), (1,)),
        ((2**31 - 1,), (-(2**31),), (1,), (-1,)),
        ((2**63 - 1,), (-(2**63),), (1,), (-1,)),
        ((-100,), (3,), (0,), None),
        ((1, 2), (3, 4), (-2, -1), (1, 1)),
    ):
        given = [None if each is None else ints(*each) for each in (starts, ends, axes, steps)]
        while given[-1] is None:
            del given[-1]
        yield Form("Slice", (x, *given))
    narrow = [ints(*each, dtype="int32") for each in ((1,), (4,), (0,), (2,))]
    yield Form("Slice", (x, *narrow))
    yield Form("Slice", (x, ints(1), ints(4), None, ints(2)))
    yield Form("Slice", (x,), {"starts": [1, -3], "ends": [4, 100], "axes": [0, 2]}, 9)
    yield Form("Slice", (x,), {"starts": [1], "ends": [4]}, 9)


def pads() -> Iterator[Form]:
    """Padding in every mode."""
    x = some("float32", 3, 4, 5)
    for mode in ("constant", "reflect", "edge", "wrap"):
        opset = 19 if mode == "wrap" else 18
        for pads_of in ((0, 1, 2, 0, 1, 2), (0, 0, 3, 0, 0, 1), (0,) * 6, (2, 0, 0, 1, 0, 0)):
            yield Form("Pad", (x, ints(*pads_of)), {"mode": mode}, opset)
        yield Form("Pad", (x, ints(1, 2), None, ints(1)), {"mode": mode}, opset)
        yield Form("Pad", (x, ints(1, 2, 0, 1), None, ints(-1, 0)), {"mode": mode}, opset)
        yield Form("Pad", (some("int32", 4, 5), ints(1, 0, 0, 2)), {"mode": mode}, opset)
        yield Form("Pad", (some("float32", 4), ints(1, 2)), {"mode": mode}, opset)
        yield Form("Pad", (x, ints(0, -1, 0, 0, 0, -2)), {"mode": mode}, opset)
        yield Form(
            "Pad",
            (some("float32", 1, 2, 3, 4, 3), ints(*(0, 0, 0, 0, 1, 0, 0, 1, 0, 0))),
            {"mode": mode},
            opset,
        )
    yield Form("Pad", (x, ints(0, 1, 2, 0, 1, 2), scalar(1.5)), {}, 18)
    yield Form("Pad", (x, ints(1, 1), scalar(1.5), ints(2)), {}, 18)
    yield Form("Pad", (x, ints(0, -1, 1, 0, 0, -2), scalar(1.5)), {}, 18)
    yield Form("Pad", (x, ints(0, 1, 2, 0, 1, 2), Fixed(np.array([2], "float32"))), {}, 13)
    yield Form("Pad", (x,), {"pads": [0, 1, 2, 0, 1, 2], "value": 2.5}, 7)
    yield Form("Pad", (x, ints(0, 1, 2, 0, 1, 2), np.array(1.5, "float32")), {}, 18)
    for dtype in ("float16", "float64", "int8", "int64", "uint8", "bool"):
        yield Form("Pad", (some(dtype, 3, 4), ints(1, 0, 0, 2)), {}, 18)


def lookups() -> Iterator[Form]:
    """Gather and Scatter."""
    at = np.array([[0, 2], [-1, 1]])
    for dtype in KINDS:
        yield Form("Gather", (some(dtype, 3, 4), at))
        yield Form("GatherElements", (some(dtype, 3, 2), at))
        yield Form("GatherND", (some(dtype, 3, 3), at))
        updates = some(dtype, 2, 2)
        yield Form("ScatterElements", (some(dtype, 3, 2), at, updates))
        yield Form("ScatterND", (some(dtype, 3, 3), np.array([[0, 2], [1, 1]]), some(dtype, 2)))
        yield Form("Compress", (some(dtype, 3, 2), Fixed(np.array([True, False, True]))), {"axis": 0})
    for axis in (-1, 0, 1):
        for index in (at, at.astype("int32"), Fixed(at), scalar(1, "int64"), scalar(-1, "int32"), ints(1)):
            yield Form("Gather", (some("float32", 3, 4, 3), index), {"axis": axis})
    yield Form("Gather", (some("float32", 5), np.array(3)))
    for axis in (-1, -2, 0, 1):
        x = some("float32", 3, 3)
        yield Form("GatherElements", (x, np.array([[0, 1, 2], [-1, 0, -2]])), {"axis": axis})
        yield Form("GatherElements", (x, np.array([[0, 1], [2, 0]], "int32")), {"axis": axis})
        for reduction, opset in (("none", 16), ("add", 16), ("mul", 16), ("max", 18), ("min", 18)):
            index, updates = np.array([[0, 1, 2], [2, 0, 1]]), some("float32", 2, 3)
            yield Form("ScatterElements", (x, index, updates), {"axis": axis, "reduction": reduction}, opset)
    x = some("float32", 3, 4)
    same = np.array([[1, 1, 0, 0]])
    for reduction, opset in (("add", 16), ("mul", 16), ("max", 18), ("min", 18)):
        yield Form(
            "ScatterElements", (x, same, some("float32", 1, 4)), {"axis": 1, "reduction": reduction}, opset
        )
        yield Form(
            "ScatterElements",
            (x, np.array([[-1, 1]]), some("float32", 1, 2)),
            {"reduction": reduction},
            opset,
        )
        for dtype in ("int32", "int64", "float64"):
            given = (some(dtype, 3, 4), same, some(dtype, 1, 4))
            yield Form("ScatterElements", given, {"axis": 1, "reduction": reduction}, opset)
    for reduction, opset in (("none", 16), ("add", 16), ("mul", 16), ("max", 18), ("min", 18)):
        given = (some("float32", 4, 2, 2), np.array([[0], [2], [-1]]), some("float32", 3, 2, 2))
        yield Form("ScatterND", given, {"reduction": reduction}, opset)
        given = (some("float32", 4, 3), np.array([[[0, 1]], [[2, 2]]]), some("float32", 2, 1))
        yield Form("ScatterND", given, {"reduction": reduction}, opset)
        given = (some("float32", 6), np.array([[1], [1], [3]]), some("float32", 3))
        if reduction != "none":
            yield Form("ScatterND", given, {"reduction": reduction}, opset)
    yield Form("GatherND", (some("float32", 2, 3, 4), np.array([[[1, 2]], [[0, -1]]])))
    yield Form("GatherND", (some("float32", 2, 3, 4), np.array([[1], [2]])), {"batch_dims": 1})
    yield Form("GatherND", (some("float32", 2, 3, 4), np.array([[[1], [0]], [[2], [1]]])), {"batch_dims": 1})
    yield Form("GatherND", (some("float32", 2, 2, 4), np.array([[[1], [0]], [[3], [2]]])), {"batch_dims": 2})
    yield Form("GatherND", (some("float32", 2, 3), Fixed(np.array([[0], [1]]))))
    yield Form(
        "Scatter", (some("float32", 3, 3), np.array([[0, 1, 2]]), some("float32", 1, 3)), {"axis": 0}, 9
    )
    yield Form("Compress", (some("float32", 3, 4), Fixed(np.array([False, True, True]))))
    yield Form("Compress", (some("float32", 3, 4), Fixed(np.array([False, True, True]))), {"axis": -1})
    for lengths in (np.array([4, 3, 2, 1]), Fixed(np.array([1, 2, 4, 3]))):
        yield Form("ReverseSequence", (some("float32", 4, 4), lengths), {"time_axis": 0, "batch_axis": 1})
        yield Form("ReverseSequence", (some("float32", 4, 4), lengths), {"time_axis": 1, "batch_axis": 0})
        yield Form("ReverseSequence", (some("int32", 4, 4, 2), lengths), {"time_axis": 1, "batch_axis": 0})
    yield from one_hots()


def one_hots() -> Iterator[Form]:
    """OneHot with constant depth and values."""
    at = np.array([[0, 2, 1], [3, -1, -4]])
    for dtype in ("float32", "int64", "int32", "float64", "float16", "uint8", "bool", "int8"):
        values = Fixed(np.array([0, 1]).astype(dtype))
        for depth in (scalar(4, "int64"), ints(4), scalar(4, "float32"), scalar(4, "int32")):
            yield Form("OneHot", (at, depth, values))
    values = Fixed(np.array([-2, 3], "float32"))
    for axis in (-1, 0, 1, 2, -2, -3):
        yield Form("OneHot", (at, scalar(4, "int64"), values), {"axis": axis})
    for dtype in ("int32", "float32", "uint8"):
        yield Form("OneHot", (np.array([1, 0, 2]).astype(dtype), scalar(3, "int64"), values))
    yield Form("OneHot", (np.array(1), scalar(3, "int64"), values))
    yield Form("OneHot", (at, scalar(4, "int64"), np.array([5, 7], "float32")))
    yield Form("OneHot", (np.array([7, -7, 4, -5]), scalar(4, "int64"), values))


def generated() -> Iterator[Form]:
    """Values made from constants and the shape alone, and options of Dropout."""
    for dtype in FLOATS:
        yield Form("Dropout", (some(dtype, 2, 3),))
        yield Form("Dropout", (some(dtype, 2, 3), scalar(0.3, dtype)))
    yield Form("Dropout", (some("float32", 2, 3), scalar(0.5), scalar(False, "bool")))
    yield Form("Dropout", (some("float32", 2, 3), None, scalar(False, "bool")))
    yield Form("Dropout", (some("float32", 2, 3),), outputs=2)
    yield from over("Hardmax", FLOATS, [(4,), (2, 3), (2, 3, 4)])
    for axis in (0, 1, -2):
        yield Form("Hardmax", (some("float32", 2, 3, 4),), {"axis": axis})
    yield Form("Hardmax", (np.array([[1, 3, 3], [2, 2, 1]], "float32"),))
