"""Forms of operators that compute every element by itself."""

# ruff: noqa: C901 - lists of forms, in loops

from collections.abc import Iterator

import numpy as np
from forms import FLOATS, INTEGERS, NUMBERS, SHAPES, Fixed, Form, over, scalar, some

WIDE = (*NUMBERS, "int16", "uint16", "uint32", "uint64")
PAIRS = (
    ((), ()),
    ((3,), ()),
    ((), (2, 3)),
    ((2, 3), (3,)),
    ((2, 1, 4), (1, 3, 1)),
    ((3, 1), (2, 1, 3, 4)),
    ((2, 1, 2, 1, 3), (2, 1, 2, 1)),
)


def unary() -> Iterator[Form]:
    """Functions of one number."""
    ranges = {
        "Acos": (-0.99, 0.99),
        "Acosh": (1, 9),
        "Asin": (-0.99, 0.99),
        "Atanh": (-0.99, 0.99),
        "Log": (0.01, 9),
        "Sqrt": (0, 9),
        "Reciprocal": (0.5, 9),
    }
    for name in [
        "Acos",
        "Acosh",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "Ceil",
        "Cos",
        "Cosh",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Log",
        "Mish",
        "Reciprocal",
        "Round",
        "Selu",
        "Sigmoid",
        "Sin",
        "Sinh",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Tan",
        "Tanh",
        "ThresholdedRelu",
    ]:
        low, high = ranges.get(name, (-4, 4))
        yield from over(name, FLOATS, low=low, high=high)
    for name in ("Abs", "Sign"):
        yield from over(name, WIDE)
    yield from over("Neg", (*FLOATS, "int8", "int16", "int32", "int64"))
    yield from over("Relu", (*FLOATS, "int8", "int16", "int32", "int64"))
    yield from over("Shrink", (*FLOATS, *INTEGERS), lambd=1.5, bias=0.5)
    yield from over("Shrink", ("float32", "int32"))
    yield from over("Not", ("bool",))
    yield from over("BitwiseNot", ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"))
    yield from over("Identity", (*WIDE, "bool"))
    yield from over("Celu", ("float32",))
    yield from over("Celu", ("float32",), alpha=2.5)
    yield from over("Elu", FLOATS, alpha=2.5)
    yield from over("Gelu", FLOATS, approximate="tanh")
    yield from over("Gelu", ("float32",), approximate="none")
    yield from over("HardSigmoid", FLOATS, alpha=0.7, beta=0.1)
    yield from over("LeakyRelu", FLOATS, alpha=0.3)
    yield from over("LeakyRelu", ("float32",), alpha=1.5)
    yield from over("LeakyRelu", ("float32",), alpha=-0.5)
    yield from over("Selu", FLOATS, alpha=2.0, gamma=3.0)
    yield from over("ThresholdedRelu", FLOATS, alpha=2.5)
    yield from over("ThresholdedRelu", ("float32",), alpha=-1.0)
    halves = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5], "float32")
    for dtype in FLOATS:
        yield Form("Round", (halves.astype(dtype),))
        special = np.array([-np.inf, -1, np.nan, 2, np.inf], dtype)
        yield Form("IsNaN", (special,))
        yield Form("IsInf", (special,))
        yield Form("IsInf", (special,), {"detect_positive": 0})
        yield Form("IsInf", (special,), {"detect_negative": 0})
        yield Form("IsInf", (special,), {"detect_negative": 0, "detect_positive": 0})
    yield Form("Swish", (some("float32", 2, 3),), opset=24)
    yield Form("Swish", (some("float32", 2, 3),), {"alpha": 0.4}, opset=24)


def binary() -> Iterator[Form]:
    """Functions of two numbers, with broadcasting."""

    def pairs(operator, dtypes, opset=22, **attributes):
        for number, dtype in enumerate(dtypes):
            for a, b in PAIRS if number == 0 else PAIRS[4:5]:
                x, y = some(dtype, *a), some(dtype, *b, low=1, high=5)
                yield Form(operator, (x, y), attributes, opset)
        x, y = some(dtypes[0], 2, 3), some(dtypes[0], 3, low=1)
        yield Form(operator, (x, Fixed(y)), attributes, opset)
        yield Form(operator, (Fixed(y), x), attributes, opset)

    for name in ("Add", "Sub", "Mul"):
        yield from pairs(name, WIDE)
    yield from pairs("Div", FLOATS)
    for dtype in (*INTEGERS, "int16", "uint16", "uint32", "uint64"):
        yield Form("Div", (some(dtype, 9, low=-40, high=40), some(dtype, 9, low=1, high=5)))
        yield Form("Mod", (some(dtype, 9, low=-40, high=40), some(dtype, 9, low=1, high=5)))
        yield Form("Mod", (some(dtype, 9, low=-40, high=40), some(dtype, 9, low=1, high=5)), {"fmod": 1})
    negative = np.array([-3, -2, 3, 2, -3, 5, -5, 4, -4], "int32")
    for dtype in ("int8", "int32", "int64"):
        x = some(dtype, 9, low=-40, high=40)
        yield Form("Div", (x, negative.astype(dtype)))
        yield Form("Mod", (x, negative.astype(dtype)))
        yield Form("Mod", (x, negative.astype(dtype)), {"fmod": 1})
    for dtype in FLOATS:
        x = some(dtype, 9, low=-40, high=40)
        yield Form("Mod", (x, negative.astype(dtype)), {"fmod": 1})
    for name in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual"):
        yield from pairs(name, WIDE)
    yield from pairs("Equal", (*WIDE, "bool"))
    for name in ("And", "Or", "Xor"):
        yield from pairs(name, ("bool",))
    for name in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        yield from pairs(name, ("int32", "int8", "uint8", "int64", "uint16", "int16", "uint32", "uint64"))
    for direction in ("LEFT", "RIGHT"):
        yield from pairs("BitShift", ("uint8", "uint16", "uint32", "uint64"), direction=direction)
    for dtype in FLOATS:
        positive = some(dtype, 2, 3, low=0.5)
        yield Form("Pow", (positive, some(dtype, 3, low=-2, high=3)))
        yield Form("Pow", (some(dtype, 2, 3), scalar(2, dtype)))
        yield Form("Pow", (some(dtype, 2, 3), scalar(3, dtype)))
        yield Form("Pow", (positive, scalar(0.5, dtype)))
        yield Form("Pow", (positive, scalar(-1, dtype)))
    for dtype in ("int32", "int64"):
        yield Form("Pow", (some(dtype, 7), scalar(2, dtype)))
        yield Form("Pow", (some(dtype, 7), scalar(3, dtype)))
        yield Form("Pow", (some(dtype, 7), some(dtype, 7, low=0, high=4)))
        yield Form("Pow", (some(dtype, 7), scalar(2, "float32")))
        yield Form("Pow", (some("float32", 7), scalar(2, dtype)))
        yield Form("Pow", (some("float32", 7), some(dtype, 7, low=0, high=4)))
    yield Form("Pow", (some("float32", 7), scalar(3, "float64")))
    yield Form("Pow", (some("float64", 7), scalar(3, "float32")))
    for dtype in (*FLOATS, "int32"):
        yield Form("PRelu", (some(dtype, 2, 3, 2, 2), Fixed(some(dtype, 3, 1, 1))))
        yield Form("PRelu", (some(dtype, 2, 3), Fixed(some(dtype, 3))))
        yield Form("PRelu", (some(dtype, 2, 3), some(dtype, 1)))
    yield Form("PRelu", (some("float32", 2, 3, 4), Fixed(some("float32", 1, 3, 1))))
    yield Form("PRelu", (some("float32", 3), scalar(0.5)))
    yield Form("PRelu", (some("float32", 2, 3, 4, 4), Fixed(some("float32", 3, 4, 4))))
    yield Form("PRelu", (some("float32", 2, 3, 4, 4), Fixed(some("float32", 4))))


def several() -> Iterator[Form]:
    """Functions of any number of tensors; clipping, selecting, converting."""
    for name in ("Max", "Min"):
        for dtype in WIDE:
            yield Form(name, (some(dtype, 2, 3), some(dtype, 3), some(dtype, 2, 1)))
        yield Form(name, (some("float32", 2, 3),))
        yield Form(name, (some("float32"), some("float32")))
        yield Form(name, (some("float32", 2, 3), Fixed(some("float32"))))
        yield Form(name, (some("float32", 2, 1, 3), some("float32", 4, 1), some("float32", 1, 1, 1, 3)))
    for name in ("Sum", "Mean"):
        for dtype in FLOATS:
            yield Form(name, (some(dtype, 2, 3), some(dtype, 3), some(dtype, 2, 1)))
        yield Form(name, (some("float32", 2, 3),))
        yield Form(name, (some("float32"), some("float32")))
        yield Form(name, (some("float32", 2, 3), Fixed(some("float32"))))
        yield Form(name, (some("float32", 1, 3), some("float32", 4, 1), some("float32", 2, 1, 1)))
    for dtype in WIDE:
        x, low, high = some(dtype, 2, 3), scalar(1, dtype), scalar(2, dtype)
        yield Form("Clip", (x, low, high))
        yield Form("Clip", (x, low))
        yield Form("Clip", (x, None, high))
    x = some("float32", 2, 3)
    yield Form("Clip", (x,))
    yield Form("Clip", (x, None, None))
    yield Form("Clip", (x, np.array(-1, "float32"), np.array(1, "float32")))
    yield Form("Clip", (x, None, np.array(1, "float32")))
    yield Form("Clip", (some("int32", 5), np.array(-1, "int32"), np.array(1, "int32")))
    yield Form("Clip", (x, Fixed(np.array([-1], "float32")), Fixed(np.array([1], "float32"))))
    yield Form("Clip", (x, scalar(2), scalar(-1)))
    yield Form("Clip", (x, scalar(-np.inf), scalar(1)))
    yield Form("Clip", (x,), {"min": -1.0}, 7)
    yield Form("Clip", (x,), {"min": -1.0, "max": 1.0}, 9)
    for dtype in (*WIDE, "bool"):
        yield Form("Where", (some("bool", 2, 3), some(dtype, 3), some(dtype, 2, 1)))
    yield Form("Where", (some("bool", 2, 1), x, scalar(0)))
    yield Form("Where", (some("bool"), x, some("float32", 3)))
    yield Form("Where", (some("bool", 4, 1, 1), some("float32"), x))
    yield Form("Where", (Fixed(some("bool", 2, 3)), x, Fixed(some("float32", 1))))
    yield from conversions()


def conversions() -> Iterator[Form]:
    """Cast and CastLike between all types."""
    from onnx import helper

    types = (*WIDE, "bool")
    for source in types:
        for target in types:
            if source == target:
                continue
            values = some(source, 7, low=-3.7, high=3.7)
            if source in FLOATS and target.startswith("u"):
                values = np.abs(values)
            to = helper.np_dtype_to_tensor_dtype(np.dtype(target))
            yield Form("Cast", (values,), {"to": to})
    for shape in SHAPES:
        yield Form("Cast", (some("float32", *shape),), {"to": 7})
    yield Form("CastLike", (some("float32", 3), some("int32", 2)))
    yield Form("CastLike", (some("int64", 3), scalar(1.0)))
    yield Form("CastLike", (some("float32", 3), some("bool", 2)))
