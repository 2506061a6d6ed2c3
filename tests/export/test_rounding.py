"""How far a quantized model's outputs move, if values between two steps round the other way."""

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from edgepack.export.reference import run_onnx
from edgepack.export.rounding import rounding_spread

PARTS = {
    "s": np.float32(0.1),
    "z": np.uint8(128),
    "w": np.random.default_rng(0).standard_normal((64, 5)).astype("float32"),
}


def model(tmp_path, body):
    made = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 18]> g (float[1, 64] x) => (float[1, 5] y) {{ {body} }}'
    )
    made.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in PARTS.items())
    onnx.save(made, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def spread(path, x):
    feeds = [{"x": row[None]} for row in x]
    return rounding_spread(path, feeds, [run_onnx(path, feed) for feed in feeds])


def test_a_model_without_quantized_activations_has_no_spread(tmp_path):
    assert spread(model(tmp_path, "y = MatMul (x, w)"), np.ones((2, 64), "float32")) is None


def test_a_value_between_two_steps_may_go_either_way(tmp_path):
    path = model(
        tmp_path,
        "q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = MatMul (d, w)",
    )
    rng = np.random.default_rng(1)
    steps = rng.integers(-20, 20, (4, 64)).astype("float32") * PARTS["s"]
    assert spread(path, steps) == pytest.approx(1 / 255)  # every value is on a step: the smallest spread
    halfway = steps + np.float32(0.05)
    found = spread(path, halfway)
    assert 2 / 255 < found < 0.5
    # As much as if all halfway values were moved by half a step.
    moved = run_onnx(path, {"x": halfway[:1] * np.float32(1.0001)})[0]
    exact = run_onnx(path, {"x": halfway[:1]})[0]
    assert np.abs(moved - exact).max() / np.abs(exact).max() < 10 * found


def test_float16_rounds_too(tmp_path):
    PARTS["h"] = PARTS["w"].astype("float16")
    try:
        path = model(tmp_path, "a = Cast <to = 10> (x) b = MatMul (a, h) y = Cast <to = 1> (b)")
    finally:
        del PARTS["h"]
    found = spread(path, np.random.default_rng(2).standard_normal((4, 64)).astype("float32"))
    assert 2**-10 <= found < 2**-7
