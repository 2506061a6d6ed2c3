"""The model's inputs in a recipe: sizes that are open, and inputs with a value."""

import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgepack.api import check, examine
from edgepack.config.plan import make_plan
from edgepack.errors import ConfigError

RECIPE = """\
edgepack: 1
name: scaled
model:
  onnx: m.onnx
{inputs}targets:
  - target: arm64
"""


@pytest.fixture
def recipe(tmp_path):
    """A recipe of ``y = x * gain``, with these inputs."""

    def write(inputs="", *, shape=(1, 4), gain=()):
        values = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
            for name, dims in (("x", shape), ("gain", gain), ("y", None))
        ]
        nodes = [helper.make_node("Mul", ["x", "gain"], ["y"])]
        graph = helper.make_graph(nodes, "g", values[:2], values[2:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.save(model, tmp_path / "m.onnx")
        lines = "".join(f"    - {line}\n" for line in inputs.splitlines())
        path = tmp_path / "r.yaml"
        path.write_text(RECIPE.format(inputs=f"  inputs:\n{lines}" if inputs else ""))
        return path

    return write


def messages(path):
    return [problem.message for problem in check(path)]


def test_an_open_batch_is_refused_by_every_command(recipe):
    path = recipe(shape=("n", 4))
    (message,) = messages(path)
    assert message == (
        "axis 0 of input `x` is 'n' in the model: write its size in `inputs: [{name: x, shape: [n, 4]}]`"
    )
    with pytest.raises(ConfigError):
        examine(path)
    assert messages(recipe("{name: x, shape: [2, 4]}", shape=("n", 4))) == []


def test_every_open_axis_is_named(recipe):
    path = recipe(shape=(None, "width"), gain=("g",))
    assert [message.partition(" in the model")[0] for message in messages(path)] == [
        "axis 0 of input `gain` is 'g'",
        "axis 0 of input `x` is '?'",
        "axis 1 of input `x` is 'width'",
    ]


def test_an_input_without_axes_and_one_with_a_value(recipe):
    path = recipe("{name: gain, shape: [], value: 2.5}")
    assert messages(path) == []
    model = make_plan(path).recipe.model
    assert [each.value for each in model.inputs] == [2.5]
    assert model.fed == ()
    assert not examine(path).model_problems


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("{name: gain, shape: [], value: [1, 2]}", "expected 1 elements for shape [], got 2"),
        ("{name: gain, shape: [2, 2], value: [1, 2]}", "expected 4 elements for shape [2, 2], got 2"),
        ("{name: gain, shape: [], value: true}", "expected a number for float32, got True"),
        ("{name: gain, shape: [], dtype: bool, value: 1}", "expected true or false for bool, got 1"),
        ("{name: gain, shape: [], dtype: int8, value: 200}", "in the range of int8, got 200"),
        ("{name: gain, shape: [], dtype: uint8, value: -1}", "in the range of uint8, got -1"),
        (
            "{name: gain, shape: [], dtype: int64, value: 1.5}",
            "expected a whole number in the range of int64",
        ),
        ("{name: gain, shape: [], value: much}", "got the text 'much'"),
        ("{name: gain, shape: [], value: [1, much]}", "got the text 'much'"),
        ("{name: gain, shape: [], value: .inf}", "got the text '.inf'"),
        ("{name: gain, shape: [one]}", "axis 0 of input `gain` is 'one': write its size"),
    ],
)
def test_values_and_sizes_that_do_not_fit_are_refused(recipe, inputs, message):
    found = messages(recipe(inputs))
    assert any(message in each for each in found), found


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("{name: X, shape: [1, 4]}", "the model has no input `X`; did you mean `x`?"),
        ("{name: x, shape: [1, 5]}", "input `x` is [1, 4] in the model, not [1, 5]"),
        ("{name: x, shape: [4]}", "input `x` is [1, 4] in the model, not [4]"),
        ("{name: x, shape: [1, 4], dtype: int64}", "input `x` is float32 in the model, not int64"),
        ("{name: gain, shape: [1], value: 2}", "input `gain` is [] in the model, not [1]"),
    ],
)
def test_inputs_that_contradict_the_model_are_refused_before_anything_runs(recipe, inputs, message):
    assert messages(recipe(inputs)) == [message]


@pytest.mark.parametrize(
    ("kind", "name"), [("STRING", "text"), ("BFLOAT16", "bfloat16"), ("COMPLEX64", "complex64")]
)
def test_an_input_of_a_type_without_support_is_refused(recipe, tmp_path, kind, name):
    path = recipe()
    model = onnx.load(tmp_path / "m.onnx")
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DataType.Value(kind)
    onnx.save(model, tmp_path / "m.onnx")
    (message,) = messages(path)
    assert message.startswith(f"input `x` is {name} in the model: supported are float32, ")
    assert message.endswith("convert it outside the model")


def test_a_model_that_never_ends_is_not_read(recipe, tmp_path):
    path = recipe()
    (tmp_path / "m.onnx").unlink()
    os.mkfifo(tmp_path / "m.onnx")
    path.write_text(path.read_text().replace("onnx: m.onnx", f"onnx: m.onnx\n  sha256: {'0' * 64}"))
    assert messages(path) == [f"not a file: {tmp_path}/m.onnx"]


def test_a_torch_source_sets_its_own_values(recipe, tmp_path):
    (tmp_path / "net.py").write_text("def network(): ...\n")
    path = recipe("{name: gain, shape: [], value: 1}")
    path.write_text(path.read_text().replace("onnx: m.onnx", "source: net:network"))
    assert [each for each in messages(path) if "`value` needs an .onnx file" in each]


def test_data_of_a_model_whose_other_inputs_have_values(recipe, tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 4), "float32"), y=np.zeros(4, "int64"))
    path = recipe("{name: x, shape: [1, 4]}\n{name: gain, shape: [], value: 1}")
    path.write_text(path.read_text() + "data: {npz: d.npz}\n")
    assert messages(path) == []
