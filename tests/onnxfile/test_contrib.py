"""Operators of onnxruntime's own domain are replaced by standard ones that compute what onnxruntime computes.

Every rule is run in each of its forms: optional inputs given and omitted, attributes away from their default.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.errors import UnsupportedError
from edgepack.export import import_onnx, run_onnx
from edgepack.onnxfile.contrib import RULES


@dataclass(frozen=True)
class Case:
    """One node: its inputs in order, None for an omitted one; those that are ``fixed`` are constants in the file."""

    operator: str
    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[int, ...] = (TensorProto.FLOAT,)  # element types; 0 for an output that is not asked for
    fixed: frozenset[int] = frozenset()
    opset: int = 17
    domain: str = "com.microsoft"

    @property
    def name(self) -> str:
        given = "".join("-" if value is None else "x" for value in self.inputs)
        settings = ",".join(f"{key}={value}" for key, value in self.attributes.items())
        return f"{self.operator} {given} {settings} {len(self.outputs)} {self.opset}"


def numbers(*shape, seed=0, scale=1.0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype("float32")


def codes(*shape, dtype="uint8", seed=0):
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max + 1, shape).astype(dtype)


def f(value):
    return np.float32(value)


def zero(value, dtype="uint8"):
    return np.array(value, dtype)


def elementwise() -> Iterator[Case]:
    x = numbers(2, 3, 8, scale=3)
    for opset in (11, 17):
        yield Case("Gelu", (x,), opset=opset)
        yield Case("BiasGelu", (x, numbers(8)), opset=opset)
        yield Case("FastGelu", (x,), opset=opset)
        yield Case("FastGelu", (x, numbers(8)), opset=opset)
        yield Case("QuickGelu", (x,), opset=opset)
        yield Case("QuickGelu", (x,), {"alpha": 0.5}, opset=opset)
    yield from fused()
    yield from renamed()


def fused() -> Iterator[Case]:
    image, weight = numbers(1, 2, 6, 6), numbers(4, 2, 3, 3, seed=1)
    small = numbers(1, 4, 4, 4, seed=2)
    activations = [
        ("", []), ("Relu", []), ("Tanh", []), ("Sigmoid", []), ("LeakyRelu", [0.3]), ("Clip", [-0.5, 0.7]), ("HardSigmoid", [0.3, 0.4])
    ]  # fmt: skip
    for activation, parameters in activations:
        settings: dict[str, Any] = {"activation": activation, "activation_params": parameters}
        settings = {key: value for key, value in settings.items() if value}
        for z in (None, small):
            yield Case("FusedConv", (image, weight, numbers(4, seed=3), z), settings, fixed=frozenset({1, 2}))
    strided = {"activation": "Relu", "strides": [2, 2], "pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    yield Case("FusedConv", (image, weight), strided, fixed=frozenset({1}))
    yield Case("FusedConv", (image, weight), {"activation": "Relu", "auto_pad": "SAME_UPPER"})
    for settings in (
        {"activation": "Relu"},
        {"activation": "LeakyRelu", "activation_alpha": 0.3, "alpha": 0.5, "beta": 2.0},
        {"activation": "HardSigmoid", "activation_alpha": 0.3, "activation_beta": 0.4},
        {"activation": "Tanh", "transA": 1, "transB": 1},
    ):
        a, b = (numbers(5, 4), numbers(6, 5)) if settings.get("transA") else (numbers(4, 5), numbers(5, 6))
        for c in (None, numbers(6, seed=4)):
            yield Case("FusedGemm", (a, b, c), settings)
    square = numbers(3, 3, 3), numbers(3, 3, 3, seed=1)
    for operator in ("FusedMatMul", "TransposeMatMul"):
        for transposed in ({}, {"transA": 1}, {"transB": 1}, {"transA": 1, "transB": 1, "alpha": 0.25}):
            yield Case(operator, square, transposed)
    for batches in ({"transBatchA": 1}, {"transBatchB": 1}, {"transBatchA": 1, "transA": 1, "transB": 1}):
        yield Case("FusedMatMul", square, batches)
    yield Case("FusedMatMul", (numbers(2, 3, 4, 5), numbers(2, 3, 4, 5)), {"transB": 1, "alpha": 0.125})


def renamed() -> Iterator[Case]:
    x, image = numbers(2, 3, 8), numbers(1, 2, 6, 6)
    yield Case("GatherND", (x, np.array([[0, 1], [1, 2]])))
    yield Case("ExpandDims", (x, np.array(1, "int32")), fixed=frozenset({1}), opset=11)
    yield Case("ExpandDims", (x, np.array(-1, "int32")), fixed=frozenset({1}))
    yield Case("Trilu", (numbers(4, 4),))
    yield Case("Trilu", (numbers(4, 4), np.array(1)), {"upper": 0}, fixed=frozenset({1}))
    yield Case("Pad", (numbers(2, 3), np.array([0, 1, 2, 0]), f(0.5)), fixed=frozenset({1, 2}))
    yield Case("Pad", (numbers(2, 3), np.array([0, 1, 1, 0])), {"mode": "reflect"}, fixed=frozenset({1}))
    yield Case("Range", (f(1), f(7), f(2)), fixed=frozenset({0, 1, 2}))
    yield Case("Range", (f(1), f(4)), fixed=frozenset({0, 1}))
    grid = np.clip(numbers(1, 3, 3, 2), -1.2, 1.2)
    for settings in ({}, {"mode": "nearest"}, {"padding_mode": "border", "align_corners": 1}):
        yield Case("GridSample", (image, grid), settings)
    for metric in ("sqeuclidean", "euclidean"):
        yield Case("CDist", (numbers(3, 4), numbers(5, 4, seed=1)), {"metric": metric})
    pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    yield Case("NhwcMaxPool", (codes(1, 6, 6, 3),), pool, (TensorProto.UINT8,))


def normalization() -> Iterator[Case]:
    x, skip = numbers(2, 3, 8, scale=3), numbers(2, 3, 8, seed=1)
    gamma, beta, bias = (numbers(8, seed=seed) for seed in (2, 3, 4))
    for opset in (11, 17):
        for domain in [""] if opset < 17 else []:
            yield Case("LayerNormalization", (x, gamma, beta), opset=opset, domain=domain)
            yield Case(
                "LayerNormalization", (x, gamma), {"epsilon": 0.1}, (1, 1, 1), opset=opset, domain=domain
            )
            wide = numbers(3, 8), numbers(3, 8)
            yield Case("LayerNormalization", (x, *wide), {"axis": 1}, opset=opset, domain=domain)
        yield Case("SimplifiedLayerNormalization", (x, gamma), opset=opset, domain="")
        yield Case(
            "SimplifiedLayerNormalization", (x, gamma), {"epsilon": 0.1, "axis": 2}, opset=opset, domain=""
        )
        for shift in (None, beta):
            for added in (None, bias):
                yield Case(
                    "SkipLayerNormalization", (x, skip, gamma, shift, added), {"epsilon": 1e-5}, opset=opset
                )
        yield Case("SkipLayerNormalization", (x, skip, gamma, beta), {}, (1, 0, 0, 1), opset=opset)
        yield Case("SkipLayerNormalization", (x, skip[:1], gamma, beta, bias), {}, (1, 0, 0, 1), opset=opset)
        yield Case("SkipSimplifiedLayerNormalization", (x, skip, gamma), {"epsilon": 0.1}, opset=opset)
        yield Case("SkipSimplifiedLayerNormalization", (x, skip, gamma, bias), {}, (1, 0, 0, 1), opset=opset)
    ids, segments = (np.array([[1, 4, 2], [0, 3, 3]], "int32"), np.array([[0, 0, 1], [1, 0, 1]], "int32"))
    words, places, kinds = numbers(6, 8), numbers(4, 8, seed=1), numbers(2, 8, seed=2)
    mask, positions = np.array([[1, 1, 0], [1, 1, 1]], "int32"), np.array([[2, 0, 1], [0, 0, 3]], "int32")
    tables = frozenset({2, 3, 4, 5, 6})
    for inputs, outputs in (
        ((ids, segments, words, places, kinds, gamma, beta), (1, TensorProto.INT32)),
        ((ids, None, words, places, None, gamma, beta), (1, TensorProto.INT32)),
        ((ids, segments, words, places, kinds, gamma, beta, mask), (1, TensorProto.INT32)),
        ((ids, segments, words, places, kinds, gamma, beta, mask, positions), (1, TensorProto.INT32, 1)),
    ):
        for opset in (11, 17):
            yield Case("EmbedLayerNormalization", inputs, {"epsilon": 1e-5}, outputs, tables, opset)
    stored = (codes(6, 8), codes(4, 8, seed=1), codes(2, 8, seed=2), codes(8, seed=3), codes(8, seed=4))
    scales = tuple(f(0.01 * (i + 1)) for i in range(5))
    zeros = tuple(zero(120 + i) for i in range(5))
    inputs = (ids, segments, *stored, mask, *scales, *zeros)
    yield Case("QEmbedLayerNormalization", inputs, {}, (1, TensorProto.INT32), frozenset(range(2, 18)) - {7})


def attentions() -> Iterator[Case]:
    batch, tokens, channels, heads = 2, 4, 12, 3
    x, weight, bias = (
        numbers(batch, tokens, channels),
        numbers(channels, 36, seed=1, scale=0.5),
        numbers(36, seed=2),
    )
    past = numbers(2, batch, heads, 2, 4, seed=3)
    lengths, ranges = np.array([4, 2], "int32"), np.array([4, 3, 0, 1], "int32")
    raw = np.array([[1, 1, 1, 0], [1, 1, 1, 1]], "int32")
    rows = np.tril(np.ones((batch, tokens, tokens), "int32"))
    scores = numbers(1, heads, tokens, tokens, seed=5)
    fixed = frozenset({1, 2})
    for settings in ({}, {"unidirectional": 1}, {"scale": 0.2}):
        yield Case("Attention", (x, weight, bias), {"num_heads": heads, **settings}, fixed=fixed)
    for mask in (lengths, ranges, raw, rows):
        yield Case("Attention", (x, weight, bias, mask), {"num_heads": heads}, fixed=fixed, opset=11)
    yield Case("Attention", (x, weight, bias, raw), {"num_heads": heads, "unidirectional": 1}, fixed=fixed)
    yield Case(
        "Attention", (x, weight, bias, raw), {"num_heads": heads, "mask_filter_value": -1.0}, fixed=fixed
    )
    yield Case("Attention", (x, weight, bias, None, None, scores), {"num_heads": heads}, fixed=fixed)
    yield Case("Attention", (x, weight, bias, None, past), {"num_heads": heads}, (1, 1), fixed)
    yield Case(
        "Attention", (x, weight, bias, None, past), {"num_heads": heads, "unidirectional": 1}, (1, 1), fixed
    )
    yield Case("Attention", (x, weight, bias), {"num_heads": heads}, (1, 1), fixed)
    uneven = numbers(channels, 30, seed=1), numbers(30, seed=2)
    yield Case("Attention", (x, *uneven), {"num_heads": heads, "qkv_hidden_sizes": [12, 12, 6]}, fixed=fixed)
    q, k, v = (numbers(batch, n, channels, seed=n) for n in (4, 5, 5))
    past_k, past_v = numbers(batch, heads, 2, 4, seed=8), numbers(batch, heads, 2, 4, seed=9)
    cross = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], "int32")
    base = {"num_heads": heads}
    yield Case("MultiHeadAttention", (q, k, v), base)
    yield Case("MultiHeadAttention", (q, k, v), base, opset=11)
    yield Case(
        "MultiHeadAttention", (q, k, v, numbers(36, seed=6)), {**base, "scale": 0.2}, fixed=frozenset({3})
    )
    yield Case("MultiHeadAttention", (q, k, v, None, cross), base)
    yield Case("MultiHeadAttention", (q, k, v, None, np.array([5, 3], "int32")), base)
    yield Case("MultiHeadAttention", (q, k, v, None, None, numbers(1, 1, 4, 5)), base)
    yield Case("MultiHeadAttention", (x, x, x), {**base, "unidirectional": 1})
    yield Case("MultiHeadAttention", (q, k, v[..., :6]), base)
    split = [numbers(batch, heads, 5, 4, seed=seed) for seed in (1, 2)]
    yield Case("MultiHeadAttention", (q, *split), base)
    yield Case("MultiHeadAttention", (q, k, v, None, None, None, past_k, past_v), base, (1, 1, 1))
    for mask, uni in ((None, 0), (lengths, 0), (raw, 1)):
        inputs = (
            codes(batch, tokens, channels),
            codes(channels, 36, dtype="int8"),
            bias,
            f(0.01),
            f(0.005),
            mask,
            zero(128),
            zero(0, "int8"),
        )
        yield Case(
            "QAttention",
            inputs,
            {"num_heads": heads, "unidirectional": uni},
            fixed=frozenset({1, 2, 3, 4, 6, 7}),
        )
    cosines, sines = (np.cos(numbers(8, 2)), np.sin(numbers(8, 2)))
    places = np.array([[0, 3, 2, 1], [4, 5, 6, 7]])
    for interleaved in (0, 1):
        yield Case(
            "RotaryEmbedding",
            (x, places, cosines, sines),
            {"interleaved": interleaved},
            fixed=frozenset({2, 3}),
        )
        yield Case(
            "RotaryEmbedding",
            (x.reshape(2, 3, 4, 4), places, cosines, sines),
            {"interleaved": interleaved},
            fixed=frozenset({2, 3}),
        )
    yield Case("RotaryEmbedding", (x, np.array([2]), cosines, sines), fixed=frozenset({2, 3}))
    part = {"num_heads": 2, "rotary_embedding_dim": 4}
    yield Case("RotaryEmbedding", (x, places, cosines, sines), part, fixed=frozenset({2, 3}))


def quantized() -> Iterator[Case]:
    for dtype in ("uint8", "int8"):
        kind = (int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype))),)
        middle = zero(128 if dtype == "uint8" else 3, dtype)
        a, b = codes(2, 4, 6, 6, dtype=dtype), codes(2, 4, 6, 6, dtype=dtype, seed=1)
        for operator in ("QLinearAdd", "QLinearMul"):
            inputs = (a, f(0.02), middle, b[:1], f(0.03), middle, f(0.05), middle)
            yield Case(operator, inputs, {}, kind, frozenset({1, 2, 4, 5, 6, 7}), 11)
        one = (a, f(0.05), middle, f(1 / 256), zero(0, dtype))
        yield Case("QLinearSigmoid", one, {}, kind, frozenset({1, 2, 3, 4}))
        yield Case("QLinearLeakyRelu", one, {"alpha": 0.2}, kind, frozenset({1, 2, 3, 4}))
        yield Case("QLinearLeakyRelu", one, {}, kind, frozenset({1, 2, 3, 4}), 11)
        for settings in (
            {"opset": 13},
            {"opset": 13, "axis": 1},
            {"opset": 11, "axis": 1},
            {"opset": 11, "axis": 2},
        ):
            yield Case("QLinearSoftmax", one, settings, kind, frozenset({1, 2, 3, 4}))
        same = (a, f(0.05), middle, f(0.04), middle)
        for last in (0, 1):
            yield Case(
                "QLinearGlobalAveragePool", same, {"channels_last": last}, kind, frozenset({1, 2, 3, 4})
            )
            for more in (
                {},
                {"strides": [2, 2], "pads": [1, 1, 1, 1]},
                {"pads": [1, 0, 1, 0], "count_include_pad": 1},
            ):
                pool = {"kernel_shape": [3, 3], "channels_last": last, **more}
                yield Case("QLinearAveragePool", same, pool, kind, frozenset({1, 2, 3, 4}))
        parts = (f(0.05), middle, a, f(0.02), middle, b, f(0.07), middle)
        yield Case("QLinearConcat", parts, {"axis": 1}, kind, frozenset({0, 1, 3, 4, 6, 7}))
        chosen = (numbers(2, 4, 6, 6) > 0, a, f(0.02), middle, b, f(0.03), middle, f(0.05), middle)
        yield Case("QLinearWhere", chosen, {}, kind, frozenset({2, 3, 5, 6, 7, 8}))
        yield Case("QuantizeLinear", (numbers(3, 4), f(0.02), middle), {}, kind, frozenset({1, 2}))
        yield Case(
            "DequantizeLinear", (codes(3, 4, dtype=dtype), f(0.02), middle), {}, fixed=frozenset({1, 2})
        )
        per_axis = numbers(4) ** 2 + 0.01, np.full(4, middle, dtype)
        for opset in (11, 17):
            yield Case(
                "QuantizeLinear", (numbers(3, 4), *per_axis), {"axis": 1}, kind, frozenset({1, 2}), opset
            )
            inputs = (codes(3, 4, dtype=dtype), *per_axis)
            yield Case("DequantizeLinear", inputs, {"axis": 1}, fixed=frozenset({1, 2}), opset=opset)
    for dtype in ("uint16", "int16"):
        kind = (int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype))),)
        middle = zero(500, dtype)
        yield Case("QuantizeLinear", (numbers(3, 4), f(1e-4), middle), {}, kind, frozenset({1, 2}))
        yield Case(
            "DequantizeLinear", (codes(3, 4, dtype=dtype), f(1e-4), middle), {}, fixed=frozenset({1, 2})
        )
    yield Case("DequantizeLinear", (codes(3, 4, dtype="int32"), f(1e-9)), {}, fixed=frozenset({1}))
    yield from products()


def products() -> Iterator[Case]:
    a, bias = codes(3, 8), codes(5, dtype="int32") // 2**20
    for dtype in ("uint8", "int8"):
        b, middle = codes(8, 5, dtype=dtype, seed=1), zero(7, dtype)
        columns = (0.001 * (1 + np.arange(5))).astype("float32"), np.full(5, middle, dtype)
        for scale, zeros in ((f(0.004), middle), columns):
            operands = (a, f(0.02), zero(100), b, scale, zeros)
            fixed = frozenset(range(1, 9))
            yield Case("QGemm", (*operands, bias, f(0.1), zero(90)), {}, (TensorProto.UINT8,), fixed)
            yield Case("QGemm", operands, {"alpha": 0.5}, fixed=fixed)
            yield Case("QGemm", (*operands, bias), {"alpha": 0.5}, fixed=fixed)
            turned = (a.T.copy(), f(0.02), zero(100), b.T.copy(), scale, zeros, bias)
            yield Case("QGemm", turned, {"transA": 1, "transB": 1}, fixed=fixed)
            for more in ((), (numbers(5),)):
                inputs = (a, b, f(0.02), scale, zero(100), zeros, *more)
                yield Case("MatMulIntegerToFloat", inputs, fixed=frozenset({1, 3, 5, 6}))
                inputs = (numbers(2, 3, 8), b, scale, zeros, *more)
                yield Case("DynamicQuantizeMatMul", inputs, fixed=frozenset({1, 2, 3, 4}))
        yield Case("MatMulIntegerToFloat", (a, b, f(0.02), f(0.004)), fixed=frozenset({1, 3}))
        yield Case("DynamicQuantizeMatMul", (numbers(2, 3, 8), b, f(0.004)), fixed=frozenset({1, 2}))
    image, weight = codes(1, 6, 6, 4), codes(8, 4, 3, 3, dtype="int8")
    inputs = (
        image,
        f(0.02),
        zero(120),
        weight,
        f(0.01),
        zero(0, "int8"),
        f(0.3),
        zero(128),
        codes(8, dtype="int32") // 2**20,
    )
    fixed = frozenset(range(1, 9))
    yield Case("QLinearConv", inputs, {"channels_last": 1, "pads": [1, 1, 1, 1]}, (TensorProto.UINT8,), fixed)
    first = (image.transpose(0, 3, 1, 2).copy(), *inputs[1:])
    yield Case("QLinearConv", first, {"strides": [2, 2]}, (TensorProto.UINT8,), fixed)
    for bits, rows, columns, block in ((4, 6, 64, 32), (4, 6, 40, 16), (8, 6, 64, 32), (2, 6, 64, 32)):
        blocks = -(-columns // block)
        packed = codes(rows, blocks, block * bits // 8)
        scales = (numbers(rows, blocks) ** 2 + 0.01).astype("float32")
        zeros = codes(rows, -(-blocks * bits // 8), seed=1)
        settings = {"K": columns, "N": rows, "bits": bits, "block_size": block}
        for inputs in (
            (packed, scales),
            (packed, scales, zeros),
            (packed, scales, zeros, None, numbers(rows)),
        ):
            yield Case("MatMulNBits", (numbers(3, columns), *inputs), settings, fixed=frozenset({1, 2, 3, 5}))
        coarse = {**settings, "accuracy_level": 4}
        yield Case("MatMulNBits", (numbers(3, columns), packed, scales), coarse, fixed=frozenset({1, 2}))


CASES = [*elementwise(), *normalization(), *attentions(), *quantized()]


def build(case, *, half=False):
    """The file of a case, and the values of the inputs that are not constants."""
    feeds, constants, names = {}, [], []
    for index, value in enumerate(case.inputs):
        names.append("" if value is None else f"i{index}")
        if value is None:
            continue
        array = np.asarray(value)
        array = array.astype("float16") if half and array.dtype == np.float32 else array
        if index in case.fixed:
            constants.append(numpy_helper.from_array(array, names[-1]))
        else:
            feeds[names[-1]] = array
    unread = {} if feeds else {"unread": np.ones(1, "float32")}
    outputs = [f"o{index}" if kind else "" for index, kind in enumerate(case.outputs)]
    nodes = [helper.make_node(case.operator, names, outputs, name="N", domain=case.domain, **case.attributes)]
    kinds = {name: kind for name, kind in zip(outputs, case.outputs, strict=True) if name}
    if unread:
        nodes.append(helper.make_node("Add", ["o0", "unread"], ["sum"]))
        kinds = {"sum": TensorProto.FLOAT}
    if half:
        kinds = {
            name: TensorProto.FLOAT16 if kind == TensorProto.FLOAT else kind for name, kind in kinds.items()
        }
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in (feeds | unread).items()
        ],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()],
        constants,
    )
    opsets = [helper.make_opsetid("", case.opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), feeds | unread


def compare(case, folder, *, half=False):
    made, feeds = build(case, half=half)
    onnx.save(made, folder / "m.onnx")
    import_onnx(folder / "m.onnx", (), folder / "out.onnx")
    nodes = onnx.load(folder / "out.onnx").graph.node
    assert all(not node.domain for node in nodes)
    expected, actual = run_onnx(folder / "m.onnx", feeds), run_onnx(folder / "out.onnx", feeds)
    for a, b in zip(actual, expected, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if a.dtype.kind == "f":
            tolerance = 5e-3 if half else 2e-5
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, float(np.abs(b).max())))
        else:
            difference = np.abs(a.astype("int64") - b.astype("int64"))
            assert difference.max() <= 1, "at most the rounding of a tie"
            assert (difference > 0).mean() < 0.05


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_standard_form_computes_what_onnxruntime_computes(case, tmp_path):
    compare(case, tmp_path)


def test_every_rule_has_a_case():
    not_run = {"QLinearReduceMean"}  # onnxruntime has no kernel for it
    assert {case.operator for case in CASES} == {name for _, name in RULES} - not_run


HALVES = [
    case
    for case in (*elementwise(), *normalization(), *attentions())
    if not case.operator.startswith(("Q", "Range", "CDist"))  # which have no kernels for float16
    and (case.operator, len(case.outputs)) != ("LayerNormalization", 3)  # of which two stay float32
]


@pytest.mark.parametrize("case", HALVES, ids=lambda case: case.name)
def test_half_precision_is_kept(case, tmp_path):
    compare(case, tmp_path, half=True)


@pytest.mark.parametrize(
    ("domain", "operator", "advice"),
    [
        ("com.microsoft.nchwc", "Conv", "ORT_ENABLE_EXTENDED"),
        ("com.microsoft", "DynamicQuantizeLSTM", "DequantizeLinear"),
        ("com.microsoft", "GroupQueryAttention", "key-value caches"),
        ("com.microsoft", "NhwcConv", "GPU"),
        ("com.microsoft", "Inverse", "optimisations"),
        ("ai.onnx.ml", "Scaler", "classical machine learning"),
        ("acme", "Inverse", "local function"),
    ],
)
def test_an_operator_without_a_rule_is_refused_with_advice(domain, operator, advice, tmp_path):
    made, _ = build(Case(operator, (numbers(2, 2),), domain=domain))
    made.opset_import.append(helper.make_opsetid(domain, 1))
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(UnsupportedError, match=operator) as caught:
        import_onnx(tmp_path / "m.onnx", (), tmp_path / "out.onnx")
    assert advice in caught.value.next
    assert "N" in caught.value.where


@pytest.mark.parametrize(
    "case",
    [
        Case("FusedConv", (numbers(1, 2, 6, 6), numbers(4, 2, 3, 3)), {"activation": "Swish"}),
        Case("MultiHeadAttention", (numbers(2, 4, 3, 3, 4),), {"num_heads": 3}),
        Case("Attention", (numbers(2, 4, 12), numbers(12, 36), numbers(36)), {"num_heads": 3, "do_rotary": 1}),
        Case("ExpandDims", (numbers(2, 3), np.array(1, "int32"))),
        Case("MatMulNBits", (numbers(3, 64), codes(6, 2, 16), numbers(6, 2)), {"K": 64, "N": 6, "bits": 4, "block_size": 32}),
        Case("GridSample", (numbers(1, 2, 6, 6), numbers(1, 3, 3, 2)), opset=13),
    ],
    ids=lambda case: case.operator,
)  # fmt: skip
def test_a_form_without_a_standard_equivalent_is_refused_with_a_reason(case, tmp_path):
    made, _ = build(case)
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(UnsupportedError, match="in this form") as caught:
        import_onnx(tmp_path / "m.onnx", (), tmp_path / "out.onnx")
    assert caught.value.why
    assert caught.value.next
