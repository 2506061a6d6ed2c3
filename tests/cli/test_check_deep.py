"""`edgepack check --deep`: what cannot be lowered, from the command line."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, save

from edgepack import api
from edgepack.errors import InputError
from edgepack.zoo import digits


@pytest.fixture
def hopeless(cli):
    """A model with operators that cannot be lowered, in the working directory."""
    nodes = [
        helper.make_node("DeformConv", ["x", "w", "o1"], ["h"], name="first"),
        helper.make_node("DeformConv", ["h", "w", "o2"], ["y"], name="second"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1, 2, 2])
    shapes = {"w": (1, 1, 2, 2), "o1": (1, 8, 3, 3), "o2": (1, 8, 2, 2)}
    weights = [numpy_helper.from_array(np.ones(shape, "float32"), name) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    path = cli.folder / "hopeless.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10), path)
    return path


def test_a_model_with_problems_has_exit_code_2_and_lists_all_of_them(cli, hopeless):
    done = cli("check", "--deep", "hopeless.onnx", "--json")
    assert done.code == 2
    found = [(each["operator"], each["node"]) for each in done.json["model_problems"]]
    assert found == [("DeformConv", "first"), ("DeformConv", "second")]
    done = cli("compile", "hopeless.onnx", "--target", "rpi4")
    assert done.code == 2
    assert done.out == ""
    for words in (
        "nodes first, second: operator DeformConv",
        "supported operators",
        "2 problems",
    ):
        assert words in done.err
    assert "Traceback" not in done.err


def test_a_model_that_can_be_compiled_and_a_recipe_with_it(cli, tiny_onnx):
    (cli.folder / "tiny.onnx").write_bytes(tiny_onnx.read_bytes())
    done = cli("check", "--deep", "tiny.onnx")
    assert done.code == 0, done.err
    assert "tiny.onnx: ok, " in done.err
    recipe = "edgepack: 1\nname: tiny\nmodel:\n  onnx: tiny.onnx\ntargets:\n  - target: rpi4\n"
    cli.write("recipe.yaml", recipe)
    document = cli("check", "recipe.yaml", "--deep", "--json")
    assert document.code == 0, document.err
    assert document.json["model_problems"] == []
    assert document.json["kernels"] > 0


def test_a_recipe_with_mistakes_is_not_lowered(cli):
    cli.write("recipe.yaml", "edgepack: 1\nname: x\nmodel:\n  onnx: x.onnx\ntargets:\n  - target: rpi44\n")
    done = cli("check", "recipe.yaml", "--deep")
    assert done.code == 2
    assert "unknown target" in done.err
    assert "no such file" in done.err


def test_a_torch_source_is_exported_first(cli):
    (cli.folder / "net.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Module):\n    def forward(self, x):\n"
        "        return x + 0 * torch.randn_like(x)\n\n\ndef network():\n    return Net()\n"
    )
    cli.write(
        "recipe.yaml",
        "edgepack: 1\nname: net\nmodel:\n  source: net:network\n  inputs:\n"
        "    - {name: x, shape: [1, 3, 3]}\ntargets:\n  - target: rpi4\n",
    )
    done = cli("check", "--deep", "recipe.yaml")
    assert done.code == 2
    assert "operator RandomNormalLike (opset 18) cannot be imported" in done.err


def test_without_deep_a_model_is_no_recipe(cli, hopeless):
    done = cli("check", "hopeless.onnx")
    assert done.code == 2
    assert "edgepack check --deep hopeless.onnx" in done.err


def test_a_missing_model(cli):
    done = cli("check", "--deep", "nowhere.onnx")
    assert done.code == 2
    assert "there is no such model file" in done.err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: {f"module.{name}": value for name, value in state.items()}, None),
        (lambda state: {f"backbone.{name}": value for name, value in state.items()}, "unexpected: backbone."),
        (lambda state: dict(list(state.items())[:-2]), "missing: "),
        (lambda state: {name: value[..., :1] if value.dim() else value for name, value in state.items()}, "wrong shape: "),
    ],
    ids=["of DistributedDataParallel", "of something larger", "incomplete", "of other sizes"],
)  # fmt: skip
def test_weights_are_loaded_as_a_run_does(tmp_path, change, says):
    torch.save(change(digits.network().state_dict()), tmp_path / "w.pt")
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "edgepack: 1\nname: tiny\nmodel:\n  source: edgepack.zoo.digits:network\n  weights: w.pt\n"
        "  inputs: [{name: image, shape: [1, 1, 8, 8]}]\ntargets: [{target: rpi4}]\n",
    )
    if says is None:
        examined = api.examine(path)
        assert examined.kernels > 0
        assert examined.notes == ("the prefix 'module.' of every key in w.pt was removed",)
        return
    with pytest.raises(InputError) as caught:
        api.examine(path)
    assert says in caught.value.why
