"""Inputs with a value become constants, in the imported model and in the reference."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.helper import make_node as node

from edgepack.errors import InputError
from edgepack.export import import_checked, run_onnx
from edgepack.onnxfile.binding import bound
from edgepack.spec import Input, RecipeInput


@pytest.fixture
def path(tmp_path):
    """y = x * gain if training, else -x + gain."""

    def value(name, kind=TensorProto.FLOAT, shape=()):
        return helper.make_tensor_value_info(name, kind, shape)

    branches = [
        helper.make_graph([made], name, [], [value(name, shape=None)])
        for made, name in ((node("Mul", ["x", "gain"], ["p"]), "p"), (node("Sub", ["gain", "x"], ["q"]), "q"))
    ]
    chosen = node("If", ["training"], ["y"], then_branch=branches[0], else_branch=branches[1])
    inputs = [value("x", shape=(2, 3)), value("gain", shape=(3,)), value("training", TensorProto.BOOL)]
    graph = helper.make_graph([chosen], "g", inputs, [value("y", shape=None)])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=3)
    onnx.save(made, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("gain", [2.5, (1.0, 2.0, 3.0)])
def test_a_branch_on_a_value_is_folded(path, tmp_path, training, gain):
    x = Input(name="x", shape=(2, 3))
    given = (
        RecipeInput(name="x", shape=(2, 3)),
        RecipeInput(name="gain", shape=(3,), value=gain),
        RecipeInput(name="training", shape=(), dtype="bool", value=training),
    )
    with bound(path, given) as (file, left):
        assert left == (x,)
        assert import_checked(file, left, tmp_path / "out.onnx") == (x,)
    assert [each.op_type for each in onnx.load(tmp_path / "out.onnx").graph.node] in (["Mul"], ["Sub"])
    sample = np.arange(6, dtype="float32").reshape(2, 3)
    (y,) = run_onnx(tmp_path / "out.onnx", {"x": sample})
    full = np.broadcast_to(np.float32(gain), 3)
    np.testing.assert_allclose(y, sample * full if training else full - sample)


def test_without_values_the_file_is_its_own(path):
    x = Input(name="x", shape=(2, 3))
    with bound(path, (RecipeInput(name="x", shape=(2, 3)),)) as (file, left):
        assert (file, left) == (path, (x,))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            RecipeInput(name="gains", shape=(3,), value=1.0),
            "the model has no input 'gains'; did you mean 'gain'",
        ),
        (
            RecipeInput(name="gain", shape=(3,), dtype="int32", value=1),
            "is float in the model and int32 in the recipe",
        ),
    ],
)
def test_a_value_of_another_input_is_refused(path, given, message):
    with pytest.raises(InputError, match=message) as caught, bound(path, (given,)):
        pass
    assert caught.value.where == str(path)
    assert caught.value.next


def test_errors_name_the_users_file(path, tmp_path):
    given = RecipeInput(name="gain", shape=(4,), value=1.0)  # not the shape that the model takes
    with pytest.raises(InputError) as caught, bound(path, (given,)) as (file, left):
        import_checked(file, (*left, Input(name="x", shape=(9, 9))), tmp_path / "out.onnx")
    assert str(path) in caught.value.where
