"""The reference computes explicit integers exactly, on every kind of CPU."""

from pathlib import Path

import cpus
import integer_cases
import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from edgepack.errors import InputError
from edgepack.export.reference import run_onnx
from edgepack.onnxfile.integers import exact_integers


@pytest.mark.parametrize("kind", cpus.KINDS)
def test_every_integer_operator_is_numpys(kind):
    found = cpus.answer(kind, Path(integer_cases.__file__))
    assert len(found) > 60
    assert not {name: values for name, values in found.items() if values[0] > values[1]}


def test_a_file_without_mixed_products_is_run_as_it_is(tmp_path):
    for case in integer_cases.cases():
        operands = [case.inputs[name] for name in ("a", "b", "x", "w") if name in case.inputs]
        types = {str(operand.dtype) for operand in operands} - {"float32"}
        mixed = len(types) == 2 or (case.operator == "DynamicQuantizeMatMul" and types == {"int8"})
        assert exact_integers(case.model(), tmp_path / "m.onnx") == mixed, case.name


def test_weights_in_a_file_of_their_own_stay_there(tmp_path):
    case = next(c for c in integer_cases.cases() if c.name == "MatMulInteger uint8 int8 4x64x32 constant")
    path = tmp_path / "m.onnx"
    onnx.save(case.model(), path, save_as_external_data=True, location="m.bin", size_threshold=0)
    (y,) = run_onnx(path, {"a": case.inputs["a"]})
    np.testing.assert_array_equal(y, case.right[0])


def test_an_operand_used_twice_is_moved_once_and_keeps_its_other_uses(tmp_path):
    a, b = integer_cases.full_range("uint8", 3, 40), integer_cases.full_range("int8", 40, 5)
    graph = helper.make_graph(
        [
            helper.make_node("MatMulInteger", ["a", "b"], ["y"]),
            helper.make_node("MatMulInteger", ["a", "b"], ["z"]),
            helper.make_node("Cast", ["b"], ["w"], to=T.INT32),
        ],
        "g",
        [helper.make_tensor_value_info(n, t, v.shape) for n, t, v in (("a", T.UINT8, a), ("b", T.INT8, b))],
        [helper.make_tensor_value_info(name, T.INT32, None) for name in "yzw"],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    y, z, w = run_onnx(path, {"a": a, "b": b})
    np.testing.assert_array_equal(y, a.astype(np.int64) @ b.astype(np.int64))
    np.testing.assert_array_equal(z, y)
    np.testing.assert_array_equal(w, b)


def test_a_product_inside_a_branch(tmp_path):
    a, b = integer_cases.full_range("uint8", 3, 40), integer_cases.full_range("int8", 40, 5)

    def branch(name, constant):
        return helper.make_graph(
            [helper.make_node("MatMulInteger", ["a", constant], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, T.INT32, None)],
        )

    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=branch("t", "b"), else_branch=branch("e", "b"))],
        "g",
        [
            helper.make_tensor_value_info("a", T.UINT8, a.shape),
            helper.make_tensor_value_info("c", T.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", T.INT32, None)],
        [numpy_helper.from_array(b, "b")],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    (y,) = run_onnx(path, {"a": a, "c": np.asarray(True)})
    np.testing.assert_array_equal(y, a.astype(np.int64) @ b.astype(np.int64))


def test_an_operand_of_unknown_type_is_refused_with_its_node(tmp_path):
    case = next(c for c in integer_cases.cases() if c.name == "MatMulInteger uint8 int8 4x64x32 fed bare")
    model = case.model()
    model.graph.node.insert(0, helper.make_node("Mystery", ["b"], ["b2"], domain="com.microsoft"))
    model.graph.node[1].input[1] = "b2"
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(InputError, match="element type of 'b2' is unknown") as caught:
        run_onnx(tmp_path / "m.onnx", {})
    assert "node 'y'" in caught.value.where


@pytest.mark.parametrize("kind", cpus.KINDS)
def test_what_onnxruntime_does_by_default_is_told(kind, tmp_path):
    script = tmp_path / "default.py"
    script.write_text(
        "import json\nfrom edgepack.diagnosis import _check_onnxruntime\n"
        "from edgepack.export.reference import default_saturates\n"
        "print(json.dumps([default_saturates(), _check_onnxruntime()]))\n"
    )
    saturates, words = cpus.answer(kind, script)
    assert ("int8 saturates on this CPU by default" in words) == saturates
    if kind != "native":
        assert saturates == (kind == "Haswell")
