"""Small models of several nodes: constants that an operator generates, branches and loops, sequences, attention."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import onnx
from forms import Fixed, Form, ints, scalar, some
from onnx import helper, numpy_helper


@dataclass(frozen=True)
class Model:
    """Nodes as text in ONNX's syntax, with the values of inputs and constants; as a ``Form`` with several nodes."""

    operator: str
    text: str
    given: dict[str, Any]
    opset: int = 21
    output: str = "y"

    def __str__(self) -> str:
        return f"{self.operator}-{self.opset}: {' '.join(self.text.split())}"

    def feeds(self) -> dict[str, np.ndarray]:
        """Return the values of the graph's inputs, by name."""
        return {name: value for name, value in self.given.items() if isinstance(value, np.ndarray)}

    def model(self) -> onnx.ModelProto:
        """Return the model, its outputs without types."""
        header = f'<ir_version: 10, opset_import: ["" : {self.opset}]>'
        parsed = onnx.parser.parse_model(f"{header} g () => () {{ {self.text} }}")
        for name, value in self.feeds().items():
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            parsed.graph.input.append(helper.make_tensor_value_info(name, kind, value.shape))
        for name, value in self.given.items():
            if isinstance(value, Fixed):
                parsed.graph.initializer.append(numpy_helper.from_array(value.value, name))
        for name in self.output.split():
            parsed.graph.output.append(onnx.ValueInfoProto(name=name))
        return parsed


def generated() -> Iterator[Model]:
    """Constants that are computed from constants: patterns, windows, filter banks, shapes."""
    x = some("float32", 2, 16)
    for name, periodic in product(("HannWindow", "HammingWindow", "BlackmanWindow"), (0, 1)):
        yield Model(
            name, f"w = {name} <periodic = {periodic}> (n) y = Mul (x, w)", {"x": x, "n": scalar(16, "int64")}
        )
        text = f"w = {name} <periodic = {periodic}, output_datatype = 11> (n) c = Cast <to = 1> (w) y = Mul (x, c)"
        yield Model(name, text, {"x": x, "n": scalar(16, "int32")})
    mel = {"bins": 4, "length": 32, "rate": 8000}
    given = {name: scalar(value, "int64") for name, value in mel.items()} | {
        "low": scalar(0.0),
        "high": scalar(4000.0),
    }
    text = "w = MelWeightMatrix (bins, length, rate, low, high) y = MatMul (x, w)"
    yield Model("MelWeightMatrix", text, {"x": some("float32", 2, 17), **given})
    for dtype in ("int32", "int64", "float32", "float64"):
        given = {"a": scalar(1, dtype), "b": scalar(17, dtype), "d": scalar(1, dtype), "x": x.astype(dtype)}
        yield Model("Range", "r = Range (a, b, d) y = Add (x, r)", given)
    yield Model(
        "Range",
        "r = Range (a, b, d) y = Add (x, r)",
        {"x": x, "a": scalar(8.0), "b": scalar(0.0), "d": scalar(-0.5)},
    )
    shape = {"x": x, "s": ints(2, 16)}
    yield Model("ConstantOfShape", "c = ConstantOfShape (s) y = Add (x, c)", shape)
    yield Model("ConstantOfShape", "c = ConstantOfShape <value = float[1] {2.5}> (s) y = Add (x, c)", shape)
    yield Model(
        "ConstantOfShape",
        "c = ConstantOfShape <value = int64[1] {3}> (s) d = Cast <to = 1> (c) y = Add (x, d)",
        shape,
    )
    text = "s = Shape (x) c = ConstantOfShape <value = float[1] {1.5}> (s) y = Add (x, c)"
    yield Model("ConstantOfShape", text, {"x": x})
    yield Model(
        "ConstantOfShape",
        "c = ConstantOfShape <value = float[1] {1.5}> (s) y = Add (x, c)",
        {"x": x, "s": ints()},
    )
    text = "s = Shape (x) n = Gather (s, i) e = Expand (q, n) y = Add (x, e)"
    yield Model("Expand", text, {"x": x, "i": ints(1), "q": scalar(2.0)})
    text = """s = Shape (x) one = Constant <value_ints = [1]> () o = ConstantOfShape <value = int64[1] {1}> (one)
        r = Concat <axis = 0> (o, one) e = Expand (q, r) t = Tile (e, s) y = Add (x, t)"""
    yield Model("Tile", text, {"x": x, "q": Fixed(some("float32", 1, 1))})
    text = "m = Greater (c, z) n = NonZero (m) k = Transpose (n) y = GatherND (x, k)"
    yield Model("NonZero", text, {"x": some("float32", 4), "c": Fixed(some("float32", 4)), "z": scalar(0.0)})
    text = "u, i, v, c = Unique (k) y = Gather (x, u)"
    yield Model("Unique", text, {"x": some("float32", 4), "k": ints(3, 1, 1, 0)})
    text = "o = OneHot <axis = 0> (k, d, v) y = MatMul (x, o)"
    yield Model(
        "OneHot",
        text,
        {
            "x": some("float32", 2, 4),
            "k": ints(3, 1, 0),
            "d": scalar(4, "int64"),
            "v": Fixed(np.array([0, 1], "float32")),
        },
    )
    text = "s = Size (x) f = Cast <to = 1> (s) y = Div (x, f)"
    yield Model("Size", text, {"x": x})


def control() -> Iterator[Model]:
    """Branches and loops that are decided by constants, and branches that are not."""
    x = some("float32", 2, 3)
    branches = """y = If (c) <then_branch = t () => (float[2,3] a) { a = Add (x, k) },
        else_branch = e () => (float[2,3] b) { n = Neg (x) b = Mul (n, k) }>"""
    for value in (True, False):
        yield Model("If", branches, {"c": scalar(value, "bool"), "x": x, "k": scalar(2.0)})
        yield Model("If", branches, {"c": np.array(value), "x": x, "k": scalar(2.0)})
    text = f"s = Shape (x) m = Size (s) c = Equal (m, two) {branches}"
    yield Model("If", text, {"two": scalar(2, "int64"), "x": x, "k": scalar(2.0)})
    text = (
        f"o = ConstantOfShape <value = int64[1] {{0}}> (one) z = Squeeze (o) c = Cast <to = 9> (z) {branches}"
    )
    yield Model("If", text, {"one": ints(1), "x": x, "k": scalar(2.0)})
    nested = """y = If (c) <then_branch = t () => (float[2,3] a) { a = If (d) <
        then_branch = t2 () => (float[2,3] p) { p = Add (x, k) },
        else_branch = e2 () => (float[2,3] q) { q = Sub (x, k) }> },
        else_branch = e () => (float[2,3] b) { b = Mul (x, k) }>"""
    for c, d in product((True, False), repeat=2):
        given = {"c": scalar(c, "bool"), "d": scalar(d, "bool"), "x": x, "k": scalar(2.0)}
        yield Model("If", nested, given)
    loop = """y, all = Loop (n, go, x) <body = b (int64 i, bool c, float[2,3] v) => (bool d, float[2,3] w, float[2,3] o)
        { d = Identity (c) f = Cast <to = 1> (i) s = Add (v, f) w = Mul (s, k) o = Identity (w) }>"""
    given = {"n": scalar(3, "int64"), "go": scalar(value=True, dtype="bool"), "x": x, "k": scalar(0.5)}
    yield Model("Loop", loop, given, output="y all")
    yield Model("Loop", loop.replace("go, x", '"", x'), {k: v for k, v in given.items() if k != "go"})
    scan = """y, all = Scan <num_scan_inputs = 1, body = b (float[3] s, float[3] e) => (float[3] t, float[3] o)
        { t = Add (s, e) o = Mul (t, k) }> (z, x)"""
    given = {"z": np.zeros(3, "float32"), "x": some("float32", 4, 3), "k": scalar(0.5)}
    yield Model("Scan", scan, given, output="y all")
    axes = "scan_input_axes = [1], scan_output_axes = [1], scan_input_directions = [1], scan_output_directions = [1]"
    text = scan.replace("num_scan_inputs = 1,", f"num_scan_inputs = 1, {axes},")
    yield Model("Scan", text, {**given, "x": some("float32", 3, 4)}, output="y all")


def narrow() -> Iterator[Model]:
    """Weights of 4 bits, in blocks, and in 8-bit floating point, through DequantizeLinear."""
    import ml_dtypes

    x = some("float32", 2, 8)
    image = some("float32", 1, 3, 5, 5)
    for kind, low in ((ml_dtypes.int4, -8), (ml_dtypes.uint4, 0), (np.int8, -100), (np.uint8, 0)):
        high = 7 if low == -8 else 15 if kind == ml_dtypes.uint4 else 100
        w = Fixed(some("int32", 8, 6, low=low, high=high).astype(kind))
        for shape, axis, block in (
            ((), 1, 0),
            ((6,), 1, 0),
            ((8,), 0, 0),
            ((2, 6), 0, 4),
            ((8, 3), 1, 2),
            ((8, 2), -1, 3),
        ):
            scale = Fixed(some("float32", *shape, low=0.1, high=0.4))
            zero = Fixed(some("int32", *shape, low=max(low, -3), high=3).astype(kind))
            attributes = f"axis = {axis}" + (f", block_size = {block}" if block else "")
            given = {"x": x, "w": w, "s": scale}
            text = f"d = DequantizeLinear <{attributes}> (w, s) y = MatMul (x, d)"
            yield Model("DequantizeLinear", text, given)
            yield Model("DequantizeLinear", text.replace("(w, s)", "(w, s, z)"), {**given, "z": zero})
        text = "d = DequantizeLinear <axis = 0> (w, s) y = Conv (x, d)"
        kernel = some("int32", 4, 3, 3, 3, low=low, high=high).astype(kind)
        yield Model(
            "DequantizeLinear",
            text,
            {"x": image, "w": Fixed(kernel), "s": Fixed(some("float32", 4, low=0.1))},
        )
        odd = Fixed(some("int32", 5, 3, low=low, high=high).astype(kind))
        text = "d = DequantizeLinear <axis = 1> (w, s) y = Gather (d, i)"
        given = {"i": np.array([[0, 4], [2, 1]]), "w": odd, "s": Fixed(some("float32", 3, low=0.1))}
        yield Model("DequantizeLinear", text, given)
    for kind in (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2):
        w = Fixed(some("float32", 8, 6).astype(kind))
        text = "d = DequantizeLinear (w, s) y = MatMul (x, d)"
        yield Model("DequantizeLinear", text, {"x": x, "w": w, "s": scalar(0.3)})


def sequences() -> Iterator[Model]:
    """Sequences of tensors inside a graph."""
    x = some("float32", 4, 3)
    yield Model(
        "ConcatFromSequence", "s = SequenceConstruct (x, x) y = ConcatFromSequence <axis = 0> (s)", {"x": x}
    )
    text = "s = SequenceConstruct (x, x) y = ConcatFromSequence <axis = 0, new_axis = 1> (s)"
    yield Model("ConcatFromSequence", text, {"x": x})
    text = "s = SplitToSequence <axis = 0> (x, n) y = SequenceAt (s, i)"
    yield Model("SequenceAt", text, {"x": x, "n": ints(1, 3), "i": scalar(1, "int64")})
    text = "s = SequenceEmpty () a = SequenceInsert (s, x) b = SequenceInsert (a, x) y = ConcatFromSequence <axis = 1> (b)"
    yield Model("SequenceInsert", text, {"x": x})
    text = "s = SequenceConstruct (x, x) n = SequenceLength (s) f = Cast <to = 1> (n) y = Mul (x, f)"
    yield Model("SequenceLength", text, {"x": x})


def attention() -> Iterator[Form]:
    """Attention and rotary embedding."""
    q, k, v = (some("float32", 2, 4, n, 8) for n in (3, 5, 5))
    mask = some("float32", 3, 5)
    for attributes in ({}, {"is_causal": 1}, {"scale": 0.3}, {"softcap": 2.0}):
        yield Form("Attention", (q, k, v), attributes, 23)
        yield Form("Attention", (q, k, v, mask), attributes, 23)
    yield Form("Attention", (q, k, v, some("bool", 3, 5) | np.eye(3, 5, dtype=bool)), {}, 23)
    yield Form("Attention", (q, k, some("float32", 2, 4, 5, 6)), {}, 23)
    yield Form("Attention", (q, some("float32", 2, 2, 5, 8), some("float32", 2, 2, 5, 8)), {}, 23)
    past = some("float32", 2, 4, 2, 8)
    yield Form("Attention", (q, k, v, None, past, past), {}, 23, 3)
    flat = {"q_num_heads": 4, "kv_num_heads": 4}
    yield Form(
        "Attention",
        (some("float32", 2, 3, 32), some("float32", 2, 5, 32), some("float32", 2, 5, 32)),
        flat,
        23,
    )
    x, cosine, sine = some("float32", 1, 2, 4, 8), some("float32", 4, 4), some("float32", 4, 4)
    at = np.array([[0, 1, 3, 2]])
    for interleaved in (0, 1):
        yield Form("RotaryEmbedding", (x, cosine, sine, at), {"interleaved": interleaved}, 23)
    yield Form("RotaryEmbedding", (x, some("float32", 1, 4, 4), some("float32", 1, 4, 4)), {}, 23)
    half = some("float32", 4, 2)
    yield Form("RotaryEmbedding", (x, half, half, at), {"rotary_embedding_dim": 4}, 23)
    yield Form("RotaryEmbedding", (some("float32", 1, 4, 16), cosine, sine, at), {"num_heads": 2}, 23)
