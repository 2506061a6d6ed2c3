"""Forms of reductions, normalisations, products, sorts and scans."""

# ruff: noqa: C901 - lists of forms, in loops

from collections.abc import Iterator

import numpy as np
from forms import FLOATS, NUMBERS, SHAPES, Fixed, Form, ints, over, scalar, some


def reductions() -> Iterator[Form]:
    """Reduce* over all kinds of axes."""
    x = some("float32", 2, 3, 4, low=0.1, high=3)
    for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"):
        name = f"Reduce{kind}"
        for axes in ((0,), (1,), (-1,), (0, 2), (-1, -3), (2, 1, 0)):
            yield Form(name, (x, ints(*axes)), {}, 18)
            yield Form(name, (x, ints(*axes)), {"keepdims": 0}, 18)
        yield Form(name, (x,), {}, 18)
        yield Form(name, (x,), {"keepdims": 0}, 18)
        yield Form(name, (x, None), {"keepdims": 0}, 18)
        yield Form(name, (x,), {"noop_with_empty_axes": 1}, 18)
        yield Form(name, (x, ints()), {"noop_with_empty_axes": 1}, 18)
        yield Form(name, (x, ints()), {}, 18)
        yield Form(name, (x, ints()), {"keepdims": 0}, 18)
        before = 11 if kind == "Sum" else 13
        yield Form(name, (x,), {"axes": [-1], "keepdims": 0}, before)
        yield Form(name, (x,), {"keepdims": 0}, before)
        for shape in SHAPES:
            yield Form(name, (some("float32", *shape, low=0.1),), {}, 18)
        yield Form(name, (some("float32", 1, 2, 3, 2, 2, low=0.1), ints(1, 3)), {}, 18)
        dtypes = ("float16", "float64", "int32", "int64", "uint32", "uint64")
        dtypes += ("int8", "uint8") if kind in {"Max", "Min"} else ()
        for dtype in dtypes:
            if dtype.startswith("uint3") and kind in {"LogSum", "SumSquare"}:
                continue  # no reference
            yield Form(name, (some(dtype, 2, 3, 2, low=1), ints(1)), {"keepdims": 0}, 18)
    for kind in ("Max", "Min"):
        yield Form(f"Reduce{kind}", (some("bool", 2, 3), ints(1)), {}, 20)
        yield Form(f"Reduce{kind}", (some("bool", 2, 3),), {"keepdims": 0}, 20)
    for name in ("ArgMax", "ArgMin"):
        tied = np.array([[3, 1, 3], [1, 1, 2]], "float32")
        for dtype in NUMBERS:
            yield Form(name, (some(dtype, 3, 4),))
        for axis in (0, 1, -1):
            for keepdims in (0, 1):
                for last in (0, 1):
                    attributes = {"axis": axis, "keepdims": keepdims, "select_last_index": last}
                    yield Form(name, (tied,), attributes)
        sign = 1 if name == "ArgMax" else -1
        for last in (0, 1):
            worst = sign * np.array([[-np.inf] * 3, [-np.inf, 0, -np.inf]], "float32")
            yield Form(name, (worst,), {"axis": 1, "keepdims": 0, "select_last_index": last})
            lowest = np.full((2, 3), -128 if name == "ArgMax" else 127, "int8")
            yield Form(name, (lowest,), {"axis": 1, "select_last_index": last})
        yield Form(name, (some("float32", 5),), {"keepdims": 0})
        yield Form(name, (some("float32", 2, 3, 2, 2, 2),), {"axis": 2})
    yield from scans()


def scans() -> Iterator[Form]:
    """CumSum, TopK, Unique with known results."""
    for dtype in (*FLOATS, "int32", "int64", "uint32", "uint64"):
        yield Form("CumSum", (some(dtype, 3, 4), scalar(1, "int64")))
    for axis in (scalar(0, "int64"), scalar(-1, "int32"), ints(1), scalar(1, "int64")):
        for attributes in ({}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}):
            yield Form("CumSum", (some("float32", 3, 4), axis), attributes)
    yield Form("CumSum", (some("float32", 5), scalar(0, "int64")))
    yield Form("CumSum", (some("float32", 2, 3, 2, 2), scalar(2, "int64")))
    for dtype in (*NUMBERS, "int16", "uint16", "uint32", "uint64"):
        yield Form("TopK", (some(dtype, 3, 7, low=-30, high=30), ints(3)), outputs=2)
    for axis in (0, 1, -1):
        for largest in (0, 1):
            attributes = {"axis": axis, "largest": largest}
            yield Form("TopK", (some("float32", 4, 5), ints(2)), attributes, outputs=2)
            yield Form("TopK", (some("float32", 4, 5), ints(4)), attributes, outputs=2)
    yield Form("TopK", (some("float32", 6), ints(1)), outputs=2)
    tied = np.array([[3, 1, 3, 2], [1, 1, 1, 1]], "float32")
    yield Form("TopK", (tied, ints(3)), outputs=2)
    yield Form("TopK", (tied, ints(3)), {"largest": 0}, outputs=2)


def normalisations() -> Iterator[Form]:
    """Softmax and the norms."""
    for name in ("Softmax", "LogSoftmax"):
        yield from over(name, FLOATS, SHAPES[1:])
        for axis in (0, 1, 2, -2):
            yield Form(name, (some("float32", 2, 3, 4),), {"axis": axis})
        yield Form(name, (some("float32", 2, 3, 4),), {}, 11)
        yield Form(name, (some("float32", 2, 3, 4),), {"axis": 2}, 11)
        yield Form(name, (np.array([[1e4, -1e4], [3e38, 3e38]], "float32"),))
    for dtype in FLOATS:
        x = some(dtype, 2, 3, 4, 2)
        c = [some(dtype, 3), some(dtype, 3), some(dtype, 3), some(dtype, 3, low=0.5)]
        yield Form("BatchNormalization", (x, *map(Fixed, c)), {"epsilon": 0.01}, 15)
        yield Form("BatchNormalization", (x, *c), {}, 15)
        yield Form("InstanceNormalization", (x, Fixed(c[0]), Fixed(c[1])), {"epsilon": 0.01})
        yield Form("LayerNormalization", (x, Fixed(some(dtype, 2)), Fixed(some(dtype, 2))), {}, 17)
        yield Form("RMSNormalization", (x, Fixed(some(dtype, 2))), {}, 23)
        yield Form(
            "GroupNormalization",
            (some(dtype, 2, 4, 3, 2), some(dtype, 4), some(dtype, 4)),
            {"num_groups": 2},
            21,
        )
        if dtype != "float64":  # no reference
            yield Form("LRN", (x,), {"size": 3})
        yield Form("LpNormalization", (x,))
        if dtype not in {"float16", "bfloat16"}:  # ONNX's inference of types refuses its own definition
            yield Form("MeanVarianceNormalization", (x,))
    x32 = some("float32", 2, 3, 4)
    c = [Fixed(some("float32", 3, low=0.5)) for _ in range(4)]
    yield Form("BatchNormalization", (x32, *c), {}, 15)
    yield Form("BatchNormalization", (some("float32", 2, 3), *c), {}, 15)
    yield Form("BatchNormalization", (some("float32", 1, 3, 2, 2, 2), *c), {"momentum": 0.5}, 15)
    yield Form("BatchNormalization", (x32, *c), {"training_mode": 1}, 15, 3)
    yield Form("BatchNormalization", (x32, *c), {"training_mode": 1}, 15)
    yield Form("InstanceNormalization", (x32, c[0], c[1]))
    yield Form("InstanceNormalization", (some("float32", 1, 3, 2, 2, 2), c[0], c[1]))
    for axis in (-1, -2, 1, 0, 2):
        shape = x32.shape[axis:]
        scale, bias = some("float32", *shape), some("float32", *shape)
        yield Form("LayerNormalization", (x32, scale, bias), {"axis": axis}, 17)
        yield Form("LayerNormalization", (x32, Fixed(scale)), {"axis": axis, "epsilon": 0.1}, 17)
        yield Form("RMSNormalization", (x32, scale), {"axis": axis}, 23)
    yield Form("LayerNormalization", (x32, some("float32", 4), None), {}, 17)
    yield Form("LayerNormalization", (x32, some("float32", 4)), {}, 17, 3)
    yield Form("LayerNormalization", (x32, some("float32", 4)), {}, 17, ("y", "mean"))
    yield Form("LayerNormalization", (x32, some("float32", 1), some("float32", 1)), {}, 17)
    yield Form("LayerNormalization", (x32, some("float32", 3, 1), some("float32", 3, 1)), {"axis": 1}, 17)
    yield Form("LayerNormalization", (some("float32", 4), some("float32", 4)), {}, 17)
    yield Form("RMSNormalization", (x32, some("float32", 1)), {"epsilon": 0.1}, 23)
    yield Form("RMSNormalization", (some("float32", 5), some("float32", 5)), {}, 23)
    yield Form(
        "GroupNormalization", (some("float32", 2, 4, 3), c[0], c[0]), {"num_groups": 1, "epsilon": 0.1}, 21
    )
    yield Form(
        "GroupNormalization",
        (some("float32", 2, 4, 3), some("float32", 4), some("float32", 4)),
        {"num_groups": 4},
        21,
    )
    yield Form(
        "GroupNormalization",
        (some("float32", 2, 4, 3), some("float32", 2), some("float32", 2)),
        {"num_groups": 2},
        18,
    )
    yield Form(
        "GroupNormalization",
        (some("float32", 2, 4), some("float32", 4), some("float32", 4)),
        {"num_groups": 2},
        21,
    )
    yield Form("LRN", (some("float32", 2, 5, 3, 3),), {"size": 5, "alpha": 0.2, "beta": 0.5, "bias": 2.0})
    for axis in (-1, 0, 1):
        for p in (1, 2):
            yield Form("LpNormalization", (x32,), {"axis": axis, "p": p})
    yield Form("LpNormalization", (np.array([[0, 0], [1, 2]], "float32"),))
    for axes in ([0], [1, 2], [0, 2, 3], [-1]):
        yield Form("MeanVarianceNormalization", (some("float32", 2, 3, 4, 2),), {"axes": axes})


def products() -> Iterator[Form]:
    """MatMul, Gemm, Einsum, Det, integer products."""
    shapes = (
        ((3,), (3,)),
        ((2, 3), (3,)),
        ((3,), (3, 4)),
        ((2, 3), (3, 4)),
        ((2, 2, 3), (3, 4)),
        ((2, 3), (2, 3, 4)),
        ((2, 1, 2, 3), (5, 3, 2)),
        ((3,), (2, 3, 4)),
        ((2, 4, 3), (3,)),
        ((1, 2, 1, 2, 3), (2, 1, 2, 3, 2)),
    )
    for a, b in shapes:
        yield Form("MatMul", (some("float32", *a), some("float32", *b)))
        yield Form("MatMul", (some("float32", *a), Fixed(some("float32", *b))))
    for dtype in ("float16", "float64", "int32", "int64", "uint32", "uint64"):
        yield Form("MatMul", (some(dtype, 2, 3), some(dtype, 3, 4)))
    for dtype in (*FLOATS, "int32", "int64"):
        a, b, c = some(dtype, 2, 3), some(dtype, 3, 4), some(dtype, 4)
        yield Form("Gemm", (a, b, c))
        yield Form("Gemm", (a, b), {"alpha": 2.0})
        yield Form("Gemm", (a, b, c), {"alpha": 0.5, "beta": 2.0})
    a, b = some("float32", 2, 3), some("float32", 3, 4)
    for c in ((), (1,), (4,), (2, 1), (1, 4), (2, 4), (1, 1)):
        yield Form("Gemm", (a, b, some("float32", *c)), {"alpha": 0.5, "beta": 3.0})
    yield Form("Gemm", (a.T.copy(), b.T.copy(), some("float32", 4)), {"transA": 1, "transB": 1})
    yield Form("Gemm", (a, Fixed(b.T.copy()), None), {"transB": 1})
    yield Form("Gemm", (a, b, some("float32", 4)), {"beta": 0.0})
    yield Form("Gemm", (a, b, some("float32", 2, 1)), {}, 9)
    equations = (
        ("ij,jk->ik", (2, 3), (3, 4)),
        ("bij,bjk->bik", (2, 2, 3), (2, 3, 4)),
        ("ij->ji", (2, 3)),
        ("ii->i", (3, 3)),
        ("ii", (3, 3)),
        ("ij->", (2, 3)),
        ("ij->i", (2, 3)),
        ("i,j->ij", (3,), (4,)),
        ("i,i", (3,), (3,)),
        ("...ij,...jk->...ik", (2, 2, 3), (2, 3, 4)),
        ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)),
        ("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)),
        ("a b, b c -> a c", (2, 3), (3, 4)),
        ("bn,anm,bm->ba", (2, 3), (4, 3, 2), (2, 2)),
        ("ij,jk", (2, 3), (3, 4)),
        ("ji", (2, 3)),
        ("...", (2, 3)),
        ("...i->...", (2, 3)),
    )
    for equation, *operands in equations:
        yield Form("Einsum", tuple(some("float32", *shape) for shape in operands), {"equation": equation})
    for dtype in ("float64", "int32", "int64", "float16"):
        yield Form("Einsum", (some(dtype, 2, 3), some(dtype, 3, 4)), {"equation": "ij,jk->ik"})
    yield Form("Det", (some("float32", 3, 3),))
    yield Form("Det", (some("float32", 2, 2, 2),))
    yield Form("Det", (some("float64", 4, 4),))
    yield Form("Det", (some("float32", 1, 1),))
    yield Form("Det", (np.array([[0, 1], [1, 0]], "float32"),))
