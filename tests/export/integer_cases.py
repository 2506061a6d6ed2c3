"""Nodes with explicit integers, full-range values and what NumPy makes of them; prints how far the reference is from it.

A program of its own, so that it runs on emulated CPUs.
"""

import itertools
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

MICROSOFT = "com.microsoft"
ELEMENT = {"uint8": T.UINT8, "int8": T.INT8, "float32": T.FLOAT}
SIZES = ((4, 64, 32), (1, 130, 17))
A_SCALE, B_SCALE = np.float32(0.01), np.float32(0.02)
RNG = np.random.default_rng(0)


@dataclass
class Case:
    """A node: its inputs by name, those that are fed (the others are constants), outputs, and their expected values."""

    name: str
    operator: str
    domain: str
    inputs: dict
    fed: tuple
    outputs: dict  # element type by name
    right: tuple
    quantum: float = 0.0  # the largest difference that rounding may make
    attributes: tuple = ()

    def model(self):
        fed = [
            helper.make_tensor_value_info(
                name, ELEMENT[str(self.inputs[name].dtype)], self.inputs[name].shape
            )
            for name in self.fed
        ]
        constants = [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in self.inputs.items()
            if name not in self.fed and value is not None
        ]
        names = [name if value is not None else "" for name, value in self.inputs.items()]
        node = helper.make_node(
            self.operator, names, list(self.outputs), domain=self.domain, **dict(self.attributes)
        )
        outputs = [helper.make_tensor_value_info(name, kind, None) for name, kind in self.outputs.items()]
        graph = helper.make_graph([node], "g", fed, outputs, constants)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def full_range(dtype, *shape):
    """Every value of a type, with more extremes, because these saturate."""
    limits = np.iinfo(dtype)
    values = RNG.integers(limits.min, limits.max + 1, shape).astype(dtype)
    kind = RNG.random(shape)
    values[kind < 0.3], values[kind > 0.8] = limits.max, limits.min
    return values


def zero_point(dtype):
    return np.asarray(full_range(dtype, 1)[0])


def quantized(real, scale, zero, dtype):
    limits = np.iinfo(dtype)
    return np.clip(np.rint(real / np.float64(scale)) + int(zero), limits.min, limits.max).astype(dtype)


def convolved(x, w):
    height, width = x.shape[2] - w.shape[2] + 1, x.shape[3] - w.shape[3] + 1
    total = np.zeros((len(x), len(w), height, width), np.int64)
    for i, j in itertools.product(range(w.shape[2]), range(w.shape[3])):
        total += np.einsum("nchw,oc->nohw", x[:, :, i : i + height, j : j + width], w[:, :, i, j])
    return total


def products(a_type, b_type):
    """Matrix products and convolutions, with operands that are constant, fed, and without zero points."""
    for constant, (m, k, n) in itertools.product((True, False), SIZES):
        a, b = full_range(a_type, m, k), full_range(b_type, k, n)
        a_zero, b_zero = zero_point(a_type), zero_point(b_type)
        total = (a.astype(np.int64) - int(a_zero)) @ (b.astype(np.int64) - int(b_zero))
        fed = ("a",) if constant else ("a", "b")
        tag = f"{a_type} {b_type} {m}x{k}x{n} {'constant' if constant else 'fed'}"
        inputs = {"a": a, "b": b, "a_zero": a_zero, "b_zero": b_zero}
        yield Case(f"MatMulInteger {tag}", "MatMulInteger", "", inputs, fed, {"y": T.INT32}, (total,))
        bare = a.astype(np.int64) @ b.astype(np.int64)
        plain = {"a": a, "b": b}
        yield Case(f"MatMulInteger {tag} bare", "MatMulInteger", "", plain, fed, {"y": T.INT32}, (bare,))
        if (a_type, b_type) == ("int8", "uint8"):
            continue  # onnxruntime supports the others for a uint8 first operand, or two of int8
        real = total * float(A_SCALE) * float(B_SCALE)
        scale, zero = np.float32(np.abs(real).max() / 100), np.asarray(7, a_type)
        a_part, b_part = {"a": a, "sa": A_SCALE, "za": a_zero}, {"b": b, "sb": B_SCALE, "zb": b_zero}
        right = (quantized(real, scale, zero, a_type),)
        ends = {"sy": scale, "zy": zero}
        kind = {"y": ELEMENT[a_type]}
        yield Case(
            f"QLinearMatMul {tag}", "QLinearMatMul", "", {**a_part, **b_part, **ends}, fed, kind, right, 1
        )
        gemm = {**a_part, **b_part, "c": None, **ends}
        yield Case(f"QGemm {tag}", "QGemm", MICROSOFT, gemm, fed, kind, right, 1)
        floats = {"a": a, "b": b, "sa": A_SCALE, "sb": B_SCALE, "za": a_zero, "zb": b_zero}
        rounding = 1e-6 * float(np.abs(real).max())
        yield Case(
            f"MatMulIntegerToFloat {tag}",
            "MatMulIntegerToFloat",
            MICROSOFT,
            floats,
            fed,
            {"y": T.FLOAT},
            (real,),
            rounding,
        )


def convolutions(a_type, b_type):
    for constant in (True, False):
        x, w = full_range(a_type, 1, 20, 7, 7), full_range(b_type, 24, 20, 3, 3)
        x_zero, w_zero = zero_point(a_type), np.asarray(0 if b_type == "int8" else 128, b_type)
        total = convolved(x.astype(np.int64) - int(x_zero), w.astype(np.int64) - int(w_zero))
        fed = ("x",) if constant else ("x", "w")
        tag = f"{a_type} {b_type} {'constant' if constant else 'fed'}"
        inputs = {"x": x, "w": w, "zx": x_zero, "zw": w_zero}
        yield Case(f"ConvInteger {tag}", "ConvInteger", "", inputs, fed, {"y": T.INT32}, (total,))
        if (a_type, b_type) == ("int8", "uint8"):
            continue
        real = total * float(A_SCALE) * float(B_SCALE)
        scale, zero = np.float32(np.abs(real).max() / 100), np.asarray(7, a_type)
        inputs = {
            "x": x,
            "sx": A_SCALE,
            "zx": x_zero,
            "w": w,
            "sw": B_SCALE,
            "zw": w_zero,
            "sy": scale,
            "zy": zero,
        }
        right = (quantized(real, scale, zero, a_type),)
        yield Case(f"QLinearConv {tag}", "QLinearConv", "", inputs, fed, {"y": ELEMENT[a_type]}, right, 1)


def dynamic(b_type):
    """Operators that quantize their first operand themselves, and attention."""
    x = (RNG.standard_normal((5, 130)) * 3).astype(np.float32)
    scale = np.float32((x.max() - x.min()) / np.float32(255))
    zero = np.clip(np.rint(-x.min() / scale), 0, 255).astype(np.uint8)
    codes = quantized(x, scale, zero, "uint8")
    outputs = {"y": T.UINT8, "scale": T.FLOAT, "zero": T.UINT8}
    right = (codes, scale, zero)
    yield Case("DynamicQuantizeLinear", "DynamicQuantizeLinear", "", {"x": x}, ("x",), outputs, right, 1)
    b, b_zero = full_range(b_type, 130, 17), zero_point(b_type)
    real = (
        (codes.astype(np.int64) - int(zero))
        @ (b.astype(np.int64) - int(b_zero))
        * float(scale)
        * float(B_SCALE)
    )
    inputs = {"x": x, "b": b, "sb": B_SCALE, "zb": b_zero}
    # An element of x halfway between two codes may round either way: one code times one weight.
    quantum = 1e-6 * float(np.abs(real).max()) + 256 * float(scale) * float(B_SCALE)
    name = f"DynamicQuantizeMatMul {b_type}"
    yield Case(name, "DynamicQuantizeMatMul", MICROSOFT, inputs, ("x",), {"y": T.FLOAT}, (real,), quantum)
    hidden, heads = 16, 2
    x, w = full_range("uint8", 1, 4, hidden), full_range(b_type, hidden, 3 * hidden)
    bias = RNG.standard_normal(3 * hidden).astype(np.float32)
    w_scale, x_zero, w_zero = (
        np.float32(0.002),
        np.asarray(128, "uint8"),
        np.asarray(0 if b_type == "int8" else 128, b_type),
    )
    qkv = (x.astype(np.int64) - 128) @ (w.astype(np.int64) - int(w_zero)) * float(A_SCALE) * float(
        w_scale
    ) + bias
    q, k, v = (part.reshape(1, 4, heads, -1).transpose(0, 2, 1, 3) for part in np.split(qkv, 3, axis=-1))
    scores = np.exp(q @ k.transpose(0, 1, 3, 2) / np.sqrt(hidden // heads))
    attended = (scores / scores.sum(-1, keepdims=True)) @ v
    right = (attended.transpose(0, 2, 1, 3).reshape(1, 4, hidden),)
    inputs = {
        "x": x,
        "w": w,
        "bias": bias,
        "sx": A_SCALE,
        "sw": w_scale,
        "mask": None,
        "zx": x_zero,
        "zw": w_zero,
    }
    name = f"QAttention {b_type}"
    attributes = (("num_heads", heads),)
    yield Case(name, "QAttention", MICROSOFT, inputs, ("x",), {"y": T.FLOAT}, right, 1e-4, attributes)


def elementwise(dtype):
    """Operators of one or two quantized tensors, without products that could saturate."""
    a, b, zero = full_range(dtype, 3, 20), full_range(dtype, 3, 20), np.asarray(5, dtype)
    za, zb = zero_point(dtype), zero_point(dtype)
    real_a = (a.astype(np.float64) - int(za)) * float(A_SCALE)
    real_b = (b.astype(np.float64) - int(zb)) * float(B_SCALE)
    kind, scale = {"y": ELEMENT[dtype]}, np.float32(0.03)
    one = {"a": a, "sa": A_SCALE, "za": za}
    two = {**one, "b": b, "sb": B_SCALE, "zb": zb, "sy": scale, "zy": zero}
    for operator, real in (("QLinearAdd", real_a + real_b), ("QLinearMul", real_a * real_b)):
        right = (quantized(real, scale, zero, dtype),)
        yield Case(f"{operator} {dtype}", operator, MICROSOFT, two, ("a", "b"), kind, right, 1)
    lowest = np.asarray(np.iinfo(dtype).min, dtype)
    inputs = {**one, "sy": np.float32(1 / 256), "zy": lowest}
    right = (quantized(1 / (1 + np.exp(-real_a)), 1 / 256, lowest, dtype),)
    yield Case(f"QLinearSigmoid {dtype}", "QLinearSigmoid", MICROSOFT, inputs, ("a",), kind, right, 1)
    image = full_range(dtype, 1, 8, 6, 6)
    mean = ((image.astype(np.float64) - int(za)) * float(A_SCALE)).mean((2, 3), keepdims=True)
    inputs = {"a": image, "sa": A_SCALE, "za": za, "sy": np.float32(0.004), "zy": zero}
    right = (quantized(mean, np.float32(0.004), zero, dtype),)
    name = f"QLinearGlobalAveragePool {dtype}"
    yield Case(name, "QLinearGlobalAveragePool", MICROSOFT, inputs, ("a",), kind, right, 1)


def cases():
    for a_type, b_type in itertools.product(("uint8", "int8"), repeat=2):
        yield from products(a_type, b_type)
        yield from convolutions(a_type, b_type)
    for dtype in ("uint8", "int8"):
        yield from dynamic(dtype)
        yield from elementwise(dtype)


def measured():
    """By case: the largest difference from NumPy's values, and the tolerance for rounding."""
    from edgepack.export.reference import run_onnx

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        for case in cases():
            onnx.save(case.model(), path)
            got = run_onnx(path, {name: case.inputs[name] for name in case.fed})
            worst = max(
                float(np.abs(a.astype(np.float64) - np.asarray(b, np.float64)).max())
                for a, b in zip(got, case.right, strict=True)
            )
            found[case.name] = (worst, case.quantum)
    return found


if __name__ == "__main__":
    json.dump(measured(), sys.stdout)
