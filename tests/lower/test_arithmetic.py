"""Every element-wise operator at special values: NaN, infinity, the ends of the types, half-way numbers."""

import numpy as np
import pytest
import values
from onnx import TensorProto, helper

from edgepack.config.target import load_target

FINITE = [
    *(
        0,
        1,
        0.5,
        1.5,
        2.5,
        0.999,
        1.001,
        2,
        3,
        7.3,
        10,
        20,
        30,
        60,
        88,
        88.7,
        89,
        100,
        104,
        255.5,
        256,
        1000,
        3e4,
    ),
    *(1e-3, 1e-5, np.pi, np.pi / 2),
]
LARGE = [1e10, 2147483520, 2147483648, 4294967296, 9.3e18, 1e19, 1e30, 1e-20]
UNARY = [
    *("Abs", "Neg", "Ceil", "Floor", "Round", "Sqrt", "Reciprocal", "Exp", "Log", "Sin", "Cos", "Tanh"),
    *("Asinh", "Acosh", "Atanh", "Erf", "Softplus", "Softsign", "Relu", "LeakyRelu", "Elu", "Selu"),
    *("HardSigmoid", "HardSwish", "Mish", "Shrink", "Gelu", "IsNaN", "IsInf", "Sinh", "Cosh", "Asin", "Acos"),
    *("Tan", "Atan", "Sign"),
]
BINARY = ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "PRelu", "Less", "Greater", "Equal", "Mod"]
INTEGERS = ["INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64", "BOOL"]
# Of NaN and infinity onnxruntime's own results are others in float16, and depend on the CPU for these two types.
DIFFERENT = {
    "float16": {"Sign", "quantized", "quantized, signed", "cast UINT32", "cast UINT64"},
    "float32": {"cast UINT32", "cast UINT64"},
}
DIGITS = {"float32": 2e-5, "float16": 2e-3}
make = helper.make_node


def special(kind):
    info = np.finfo(kind)
    numbers = [*FINITE, info.max, info.tiny, info.smallest_subnormal, np.inf]
    numbers += LARGE if kind != "float16" else [65000]
    return np.array([*numbers, *(-number for number in numbers), np.nan], kind)


def nodes():
    """All operators as nodes of one graph, of x or of a and b."""
    made = [make(operator, ["x"], [operator]) for operator in UNARY]
    made += [
        make(operator, ["a", "b"], [operator], **({"fmod": 1} if operator == "Mod" else {}))
        for operator in BINARY
    ]
    made += [make("Cast", ["x"], [f"cast {kind}"], to=getattr(TensorProto, kind)) for kind in INTEGERS]
    return [
        *made,
        make("Clip", ["x", "low", "high"], ["clipped"]),
        make("QuantizeLinear", ["x", "scale", "zero"], ["quantized"]),
        make("QuantizeLinear", ["x", "scale", "three"], ["quantized, signed"]),
    ]


def graph(kind):
    numbers = special(kind)
    a, b = (pair.ravel() for pair in np.meshgrid(numbers, numbers))
    constants = {
        "low": np.array(-1, kind),
        "high": np.array(6, kind),
        "scale": np.array(0.1, kind),
        "zero": np.array(128, "uint8"),
        "three": np.array(3, "int8"),
    }
    return {"x": numbers, "a": a, "b": b}, constants


def differences(name, got, wanted, inputs, digits):
    """Describe the first elements that are not equal: NaN for NaN, infinity for infinity, numbers by their digits."""
    assert got.dtype == wanted.dtype
    with np.errstate(all="ignore"):
        if got.dtype.kind == "f":
            a, b = got.astype(float), wanted.astype(float)
            near = np.abs(a - b) <= digits * np.abs(b) + 2 * np.finfo(got.dtype).tiny
            same = (a == b) | (np.isnan(a) & np.isnan(b)) | (near & np.isfinite(a) & np.isfinite(b))
        else:
            same = got == wanted
    at = np.flatnonzero(~same)[:5]
    return [f"{name}({', '.join(str(x[i]) for x in inputs)}) is {got[i]}, not {wanted[i]}" for i in at]


@pytest.mark.parametrize(
    ("kind", "run"),
    [
        ("float32", values.on_cpu),
        ("float16", values.on_cpu),
        pytest.param("float32", values.on_gpu, marks=pytest.mark.slow),
        pytest.param("float16", values.on_gpu, marks=pytest.mark.slow),
    ],
    ids=["float32 cpu", "float16 cpu", "float32 gpu", "float16 gpu"],
)
def test_special_values_are_those_of_onnxruntime(kind, run, tmp_path):
    inputs, constants = graph(kind)
    path = values.save(tmp_path / "m.onnx", nodes(), inputs, constants, opset=20)
    found = []
    with np.errstate(all="ignore"):
        for node, got, wanted in zip(nodes(), run(path, inputs), values.reference(path, inputs), strict=True):
            of = [inputs["x"]] if node.input[0] == "x" else [inputs["a"], inputs["b"]]
            if node.output[0] not in DIFFERENT[kind]:
                found += differences(node.output[0], got, wanted, of, DIGITS[kind])
    assert not found, "\n".join(found)


@pytest.mark.parametrize("kind", ["int32", "int64", "uint8"])
def test_integer_divisions_end_no_process(kind, tmp_path):
    """onnxruntime refuses a division by 0, or ends."""
    info = np.iinfo(kind)
    numbers = np.array([0, 1, 7, 100, info.max, info.min, *([-1, -7, -100] if info.min else [])], kind)
    a, b = (pair.ravel() for pair in np.meshgrid(numbers, numbers))
    made = [
        make("Div", ["a", "b"], ["quotient"]),
        make("Mod", ["a", "b"], ["remainder"]),
        make("Mod", ["a", "b"], ["of C"], fmod=1),
    ]
    inputs = {"a": a, "b": b}
    got = values.on_cpu(values.save(tmp_path / "m.onnx", made, inputs), inputs)
    for x, y, quotient, remainder, of_c in zip(a, b, *got, strict=True):
        pair = (int(x), int(y))
        if y == 0:
            assert (quotient, remainder, of_c) == (0, 0, 0), pair
        elif (x, y) == (info.min, -1):
            assert (quotient, remainder, of_c) == (info.min, 0, 0), pair
        else:
            whole = abs(pair[0]) // abs(pair[1]) * (1 if (pair[0] < 0) == (pair[1] < 0) else -1)
            assert (quotient, remainder, of_c) == (whole, pair[0] % pair[1], pair[0] - whole * pair[1]), pair


def test_a_conversion_to_bfloat16_rounds_to_even_wherever_it_is(tmp_path):
    """Also where the result is not stored, between two operators of a kernel."""
    import ml_dtypes

    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, 3.39e38, 3.4e38], "float32")
    nans = np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001], "uint32").view("float32")
    random = np.random.default_rng(0).standard_normal(1000, np.float32)
    x = np.concatenate([special("float32"), ties, -ties, nans, random])
    made = [
        make("Cast", ["x"], ["half"], to=TensorProto.BFLOAT16),
        make("Cast", ["half"], ["y"], to=TensorProto.FLOAT),
        make("Neg", ["half"], ["other"]),
        make("Cast", ["other"], ["z"], to=TensorProto.FLOAT),
    ]
    path = values.save(tmp_path / "m.onnx", made, {"x": x}, outputs=["y", "z"])
    y, z = values.on_cpu(path, {"x": x})
    with np.errstate(all="ignore"):
        rounded = x.astype(ml_dtypes.bfloat16).astype("float32")
    np.testing.assert_array_equal(y, rounded)
    np.testing.assert_array_equal(z, -rounded)


NUMBERS = np.random.default_rng(1).standard_normal((2, 3, 6, 6), np.float32)
NUMBERS[0, 0, 1, 1] = NUMBERS[1, 1, 5, 5] = NUMBERS[0, 2, 0, 0] = np.nan
NUMBERS[1, 0, 2, 2] = np.inf


@pytest.mark.parametrize(
    "run", [values.on_cpu, pytest.param(values.on_gpu, marks=pytest.mark.slow)], ids=["cpu", "gpu"]
)
def test_nan_stays_in_windows_and_reductions(run, tmp_path):
    """Of NaN that is not the first number, onnxruntime's MaxPool and ReduceMax keep only some."""
    rows = NUMBERS.reshape(6, 36)
    made = [
        make("MaxPool", ["x"], ["windows"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        make("GlobalMaxPool", ["x"], ["planes"]),
        make("ReduceMax", ["rows", "last"], ["largest"], keepdims=0),
        make("ReduceMin", ["rows", "last"], ["smallest"], keepdims=0),
        make("Softmax", ["rows"], ["shares"]),
        make("ReduceLogSumExp", ["rows", "last"], ["logs"], keepdims=0),
        make("Conv", ["x", "w"], ["sums"]),
        make("Relu", ["sums"], ["y"]),
        make("Clip", ["sums", "low", "high"], ["z"]),
    ]
    w = np.random.default_rng(2).standard_normal((20, 3, 3, 3), np.float32)
    constants = {"last": np.array([1]), "w": w, "low": np.float32(0), "high": np.float32(6)}
    inputs = {"x": NUMBERS, "rows": rows}
    path = values.save(tmp_path / "m.onnx", made, inputs, constants)
    windows, planes, largest, smallest, shares, logs, sums, relu, clip = run(path, inputs)
    padded = np.pad(NUMBERS, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=-np.inf)
    for row in range(3):
        for column in range(3):
            part = padded[:, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
            np.testing.assert_array_equal(windows[:, :, row, column], part.max((2, 3)))
    np.testing.assert_array_equal(planes[:, :, 0, 0], NUMBERS.max((2, 3)))
    np.testing.assert_array_equal(largest, rows.max(1))
    np.testing.assert_array_equal(smallest, rows.min(1))
    assert (np.isnan(shares).all(1) == ~np.isfinite(rows).all(1)).all()
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(logs, np.log(np.exp(rows).sum(1)), rtol=1e-5)
    assert np.isnan(sums).any()
    np.testing.assert_array_equal(relu, np.maximum(sums, 0))
    np.testing.assert_array_equal(clip, np.clip(sums, 0, 6))


@pytest.mark.parametrize(
    "run", [values.on_cpu, pytest.param(values.on_gpu, marks=pytest.mark.slow)], ids=["cpu", "gpu"]
)
def test_the_place_of_an_extreme_is_one_of_the_row(run, tmp_path):
    """Also where no number is larger than the smallest one of its type."""
    rows = np.array([[-np.inf] * 3, [-3.4028235e38] * 3, [0, 2, 2]], "float32")
    codes = np.array([[-128] * 3, [-128, -128, 127]], "int8")
    made = [
        make("ArgMax", ["rows"], ["first"], axis=1, keepdims=0),
        make("ArgMax", ["rows"], ["last"], axis=1, keepdims=1, select_last_index=1),
        make("ArgMin", ["negative"], ["smallest"], axis=0, keepdims=0),
        make("ArgMax", ["codes"], ["largest"], axis=1),
        make("MaxPool", ["image"], ["values", "places"], kernel_shape=[1, 3], strides=[1, 3]),
    ]
    inputs = {"rows": rows, "negative": -rows.T, "codes": codes, "image": rows[None, None, [0, 2]]}
    path = values.save(tmp_path / "m.onnx", made, inputs)
    first, last, smallest, largest, _, places = run(path, inputs)
    assert first.tolist() == smallest.tolist() == [0, 0, 1]
    assert last[:, 0].tolist() == [2, 2, 2]
    assert largest.tolist() == [[0], [2]]
    assert places.reshape(-1).tolist() == [0, 4]


def test_keeping_nan_in_relu_costs_no_instruction():
    """A maximum with a constant stays one, with its operands in the right order."""
    import tvm
    from tvm import te, tirx

    from edgepack.lower.emit import arithmetic
    from edgepack.schedules import tvm_target

    x = te.placeholder((1024,), "float32", name="x")
    low, high = (tirx.const(value, "float32") for value in (0, 6))
    y = te.compute(x.shape, lambda i: tirx.min(tirx.max(x[i], low), high), name="y")
    schedule = tvm.s_tir.Schedule(te.create_prim_func([x, y]))
    (loop,) = schedule.get_loops(schedule.get_sblock("y"))
    schedule.vectorize(schedule.split(loop, [None, 8])[1])
    target = load_target("x86-64-v3")
    built = tvm.tirx.build(schedule.mod, target=tvm_target(target), pipeline=arithmetic.register(target))
    code = built.inspect_source("asm")
    assert "vmaxps" in code
    assert "vminps" in code
    assert not [name for name in ("vcmp", "vblend", "vucomiss") if name in code]
