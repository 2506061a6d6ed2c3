"""Element types that a CPU must convert are said to be slower."""

import onnx
import pytest
from onnx import TensorProto, helper

from edgepack.config.target import load_target
from edgepack.lower.types import slow_types


def model(folder, dtype):
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    weight = onnx.helper.make_tensor("w", dtype, [4, 4], [1.0] * 16)
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=dtype),
        helper.make_node("MatMul", ["h", "w"], ["m"]),
        helper.make_node("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ]
    path = folder / "m.onnx"
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", value[:1], value[1:], [weight])), path)
    return path


@pytest.mark.parametrize(
    ("dtype", "target", "warned"),
    [
        (TensorProto.FLOAT16, "rpi4", True),
        (TensorProto.FLOAT16, "rpi5", False),  # it has FEAT_FP16
        (TensorProto.FLOAT16, "x86-64-v3", True),
        (TensorProto.BFLOAT16, "rpi5", True),
        (TensorProto.FLOAT, "rpi4", False),
        (TensorProto.FLOAT16, "jetson-orin", False),
    ],
)
def test_a_type_without_arithmetic_is_slower(tmp_path, dtype, target, warned):
    found = slow_types(model(tmp_path, dtype), load_target(target))
    assert len(found) == warned
    if warned:
        assert "slower than the same model in float32" in found[0]
        assert target in found[0]
