"""edgepack init: the recipe that it writes is valid."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgepack.api import check
from edgepack.config.init import init
from edgepack.config.plan import make_plan
from edgepack.config.target import target_names
from edgepack.errors import InputError, UsageError


def save_model(path, shape, dtype=TensorProto.FLOAT, name="x"):
    value = helper.make_tensor_value_info(name, dtype, shape)
    out = helper.make_tensor_value_info("y", dtype, shape)
    graph = helper.make_graph([helper.make_node("Neg", [name], ["y"])], "g", [value], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.parent.mkdir(exist_ok=True, parents=True)
    onnx.save(model, path)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_net.py").write_text("def network(): ...\n")
    return tmp_path


@pytest.mark.parametrize("target", target_names())
@pytest.mark.parametrize("model", ["models/My Net.onnx", "my_net:network"])
def test_what_init_writes_passes_check(project, model, target):
    save_model(project / "models" / "My Net.onnx", [1, 3, 8, 8])
    path = init(project / "recipe.yaml", model=model, targets=(target,))
    assert check(path) == []
    assert [entry.target for entry in make_plan(path).recipe.targets] == [target]


def test_open_sizes_are_to_be_filled_in(project):
    save_model(project / "m.onnx", ["batch", 3, "height", None], TensorProto.INT32, "in:put")
    path = init(project / "recipe.yaml", model="m.onnx", targets=("arm64",))
    problems = [problem.message for problem in check(path)]
    assert problems == [
        f"axis {axis} of input `in:put` is {name!r}: write its size"
        for axis, name in ((0, "batch"), (2, "height"), (3, "?"))
    ]
    text = path.read_text()
    assert "write the sizes of batch, height, ?" in text
    path.write_text(text.replace('[batch, 3, height, "?"]', "[1, 3, 8, 8]"))
    assert check(path) == []
    (given,) = make_plan(path).recipe.model.inputs
    assert (given.name, given.shape, given.dtype) == ("in:put", (1, 3, 8, 8), "int32")


def test_static_sizes_need_no_inputs(project):
    save_model(project / "m.onnx", [1, 4])
    assert make_plan(init(project / "r.yaml", model="m.onnx", targets=("arm64",))).recipe.model.inputs == ()


def test_the_model_is_named_from_the_recipes_folder(project):
    save_model(project / "models" / "m.onnx", [1, 4])
    path = init(
        project / "recipes" / "r.yaml", model="models/m.onnx", targets=("rpi4", "rpi4", "jetson-orin")
    )
    recipe = make_plan(path).recipe
    assert recipe.model.onnx == "../models/m.onnx"
    assert [(e.target, e.device) for e in recipe.targets] == [
        ("rpi4", "virtual:rpi4"),
        ("jetson-orin", "virtual:jetson-orin"),
    ]
    assert check(path) == []


def test_every_commented_line_is_a_right_one(project):
    """Uncomment each optional block: all of them pass check."""
    save_model(project / "m.onnx", [1, 4])
    x, y = np.zeros((2, 4), "float32"), np.zeros(2, "int64")
    np.savez(project / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    text = init(project / "r.yaml", model="m.onnx", targets=("arm64",)).read_text()
    wanted = (
        "data:",
        "  npz:",
        "compress:",
        "  - method:",
        "    samples:",
        "  minutes:",
        "  accuracy_min:",
        "  accuracy_drop:",
        "  p90_ms:",
        "  bundle_kib:",
    )
    lines = [
        line[2:] if line.startswith("# ") and line[2:].startswith(wanted) else line
        for line in text.splitlines()
    ]
    assert sum(a != b for a, b in zip(lines, text.splitlines(), strict=True)) == len(wanted)
    (project / "r.yaml").write_text("\n".join(lines) + "\n")
    assert check(project / "r.yaml") == []
    recipe = make_plan(project / "r.yaml").recipe
    assert recipe.data is not None
    assert [step.method for step in recipe.compress] == ["quantize-static"]
    assert (recipe.tune.minutes, recipe.gates.p90_ms) == (30, 20)


def test_an_existing_file_is_kept(project):
    path = project / "recipe.yaml"
    path.write_text("mine")
    with pytest.raises(UsageError, match="already exists") as caught:
        init(path, model="my_net:network")
    assert "--force" in caught.value.next
    assert path.read_text() == "mine"
    init(path, model="my_net:network", force=True)
    assert check(path) == []


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("absent.onnx", "no such model file"),
        ("empty.onnx", "empty"),
        ("broken.onnx", "not an ONNX model"),
        ("my_net:netwrok", "did you mean `network`"),
        ("no_such_module:network", "no module `no_such_module`"),
        ("model.pt", "neither an .onnx file nor module:callable"),
    ],
)
def test_a_missing_model_is_an_input_error(project, model, says):
    (project / "empty.onnx").write_bytes(b"")
    (project / "broken.onnx").write_bytes(b"\x00\x01garbage")
    with pytest.raises(InputError, match=says):
        init(project / "recipe.yaml", model=model)
    assert not (project / "recipe.yaml").exists()


def test_an_unknown_target_is_a_usage_error(project):
    with pytest.raises(UsageError, match="did you mean `rpi4`"):
        init(project / "recipe.yaml", model="my_net:network", targets=("rpi44",))
