"""Digests cover every byte of what a recipe names, and nothing else."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.base.paths import PACKAGE
from edgepack.data.sources import modules_below
from edgepack.engine.artifact import USER
from edgepack.pipeline.fingerprint import data_inputs, model_inputs, of_user
from edgepack.spec import Data, Images, Model, Text

INPUT = [{"name": "x", "shape": [1, 4]}]


def model(**fields):
    return Model.model_validate_json(Model.model_construct(**fields).model_dump_json(exclude_unset=True))


def digests(found):
    assert all(artifact.made_by == USER for artifact in found.values())
    return {role: artifact.sha256 for role, artifact in found.items()}


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def of_source(base, source="net:make"):
    return digests(model_inputs(model(source=source), base))["model_code"]


def test_files_count_by_their_bytes(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"1")
    (tmp_path / "net.py").write_text("")
    spec = model(source="net:make", weights="w.safetensors")
    before = digests(model_inputs(spec, tmp_path))
    (tmp_path / "w.safetensors").write_bytes(b"2")
    after = digests(model_inputs(spec, tmp_path))
    assert before["model_code"] == after["model_code"]
    assert before["weights_file"] != after["weights_file"]


def test_folders_count_by_names_and_bytes(tmp_path):
    seen = set()
    for change in (
        (tmp_path / "cat").mkdir,
        lambda: (tmp_path / "cat/1.png").write_bytes(b"1"),
        lambda: (tmp_path / "cat/1.png").write_bytes(b"2"),
        lambda: (tmp_path / "cat/1.png").rename(tmp_path / "cat/2.png"),
        lambda: (tmp_path / "cat/ü.png").write_bytes(b""),
    ):
        change()
        seen.add(of_user(tmp_path).sha256)
    assert len(seen) == 5


def test_missing_files_have_no_digest(tmp_path):
    assert of_user(tmp_path / "nothing").sha256 == ""
    assert of_source(tmp_path, "no_such_module:make") == ""
    assert data_inputs(None, tmp_path) == {}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_text_and_its_tokenizer_count(tmp_path, kind):
    (tmp_path / "reviews").write_text("text,label\n")
    (tmp_path / "tok.py").write_text("")
    data = Data.model_validate_json(
        Data(**{kind: Text(file="reviews", tokenizer="tok:split")}).model_dump_json()
    )
    assert set(data_inputs(data, tmp_path)) == {"data_file", "tokenizer_code"}
    assert set(data_inputs(Data(npz="reviews"), tmp_path)) == {"data_file"}


def test_what_is_imported_from_beside_the_recipe_counts(tmp_path):
    write(
        tmp_path,
        {
            "net.py": "from layers.conv import block\nimport importlib\nimportlib.import_module('plugin')\n",
            "plugin.py": "def f():\n    import late\n",
            "late.py": "",
            "layers/__init__.py": "",
            "layers/conv.py": "import tools.maths\nfrom . import norm\nfrom ..layers.act import relu\n",
            "layers/norm.py": "",
            "layers/act.py": "from .deep import *\n",
            "layers/deep/__init__.py": "",
            "layers/deep/star.py": "",
            "tools/maths.py": "",
        },
    )
    digest = of_source(tmp_path)
    for path in sorted(tmp_path.rglob("*.py")):
        path.write_text(path.read_text() + "more = 1\n")
        assert of_source(tmp_path) != digest, path
        digest = of_source(tmp_path)


def test_what_nothing_imports_does_not_count(tmp_path):
    write(tmp_path, {"net.py": "import used\nmodel.eval()\n", "used.py": "", "package/__init__.py": ""})
    digest = of_source(tmp_path)
    write(
        tmp_path,
        {
            "plot.py": "print(1)\n",
            "package/__init__.py": "x = 1\n",
            "used/notes.py": "",
            "notes.txt": "1",
            "test_net.py": "import net\n",
            "net.py": "# a comment\nimport used\n\nmodel.eval()  # and another\n",
        },
    )
    assert of_source(tmp_path) == digest
    write(tmp_path, {"net.py": "import used, plot\nmodel.eval()\n"})
    assert of_source(tmp_path) != digest


@pytest.mark.parametrize(
    "line",
    [
        "importlib.import_module(name)",
        "__import__(name)",
        "exec(open(name).read())",
        "runpy.run_path(name)",
        "importlib.util.spec_from_file_location(name, path)",
        "list(pkgutil.iter_modules())",
    ],
)
def test_what_is_imported_by_a_computed_name_counts_with_its_neighbours(tmp_path, line):
    write(tmp_path, {"net.py": f"{line}\n", "other.py": ""})
    digest = of_source(tmp_path)
    write(tmp_path, {"other.py": "1\n"})
    changed = of_source(tmp_path)
    write(tmp_path, {"new.py": ""})
    assert len({digest, changed, of_source(tmp_path)}) == 3


def test_broken_source_is_not_our_business(tmp_path):
    write(tmp_path, {"net/__init__.py": "import shared\nfrom . import broken\n", "net/broken.py": "def ("})
    before = of_source(tmp_path)
    write(tmp_path, {"shared.py": ""})
    middle = of_source(tmp_path)
    write(tmp_path, {"net/broken.py": "def (("})
    assert len({before, middle, of_source(tmp_path)}) == 3


def test_images_count_and_what_lies_beside_them_does_not(tmp_path):
    write(tmp_path, {f"images/{name}/1.png": name for name in ("cat", "dog")})
    spec = Data(images=Images(folder="images"))
    digest = digests(data_inputs(spec, tmp_path))
    write(
        tmp_path,
        {"images/.DS_Store": "", "images/cat/Thumbs.db": "", "images/README.txt": "", "images/.x/1.png": ""},
    )
    assert digests(data_inputs(spec, tmp_path)) == digest
    write(tmp_path, {"images/cat/2.png": ""})
    assert digests(data_inputs(spec, tmp_path)) != digest


def test_a_network_of_edgepack_counts_without_the_rest_of_edgepack():
    found = modules_below("edgepack.zoo.digits", PACKAGE.parent, within="edgepack.zoo")
    assert {"edgepack.zoo", "edgepack.zoo.digits"} <= found.keys()
    assert all(name.startswith("edgepack.zoo") for name in found)


def test_installed_modules_packages_and_namespace_packages_count(tmp_path, monkeypatch):
    site = tmp_path / "site"
    (site / "rv_package").mkdir(parents=True)
    (site / "rv_namespace/inner").mkdir(parents=True)
    files = [site / "rv_single.py", site / "rv_package/__init__.py", site / "rv_namespace/inner/net.py"]
    for path in files:
        path.write_text("")
    monkeypatch.syspath_prepend(str(site))
    for name, path in zip(("rv_single", "rv_package", "rv_namespace"), files, strict=True):
        before = of_source(tmp_path, f"{name}:make")
        path.write_text("1")
        assert of_source(tmp_path, f"{name}:make") != before
        assert before


def test_tensors_outside_of_an_onnx_file_count(tmp_path):
    weights = numpy_helper.from_array(np.ones(4, np.float32), "w")
    constant = numpy_helper.from_array(np.ones(4, np.float32), "c")
    nodes = [
        helper.make_node("Constant", [], ["k"], value=constant),
        helper.make_node("Add", ["k", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])], [weights]
    )
    proto = helper.make_model(graph)
    for tensor, name in (
        (proto.graph.initializer[0], "a.bin"),
        (proto.graph.node[0].attribute[0].t, "b.bin"),
    ):
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", name
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    (tmp_path / "a.bin").write_bytes(bytes(16))
    (tmp_path / "b.bin").write_bytes(bytes(16))
    spec = model(onnx="m.onnx")
    before = digests(model_inputs(spec, tmp_path))
    assert set(before) == {"onnx_file", "onnx_data a.bin", "onnx_data b.bin"}
    (tmp_path / "b.bin").write_bytes(b"1" * 16)
    after = digests(model_inputs(spec, tmp_path))
    assert {role for role in before if before[role] != after[role]} == {"onnx_data b.bin"}
    (tmp_path / "m.onnx").write_bytes(b"no model")
    assert set(model_inputs(spec, tmp_path)) == {"onnx_file"}


def test_a_location_that_is_a_folder_is_not_walked(tmp_path):
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", ".."
    proto = helper.make_model(helper.make_graph([], "g", [], [], [tensor]))
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    assert set(model_inputs(model(onnx="m.onnx"), tmp_path)) == {"onnx_file"}
