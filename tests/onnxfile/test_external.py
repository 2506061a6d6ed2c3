"""Weights in files of their own: read from the model's folder and a hub's cache, never from elsewhere."""

import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.errors import InputError
from edgepack.export import import_checked, run_onnx
from edgepack.onnxfile import load_onnx
from edgepack.onnxfile.external import MAX_BYTES, array_of
from edgepack.onnxfile.importing import import_onnx
from edgepack.onnxfile.sessions import open_session

WEIGHTS = np.arange(12, dtype="float32").reshape(3, 4)


def external(folder, location="w.bin", name="m.onnx", **entries):
    """y = x @ w, with w in ``location``."""
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (2, n)) for name, n in (("x", 3), ("y", 4))
    )
    weights = numpy_helper.from_array(WEIGHTS, "w")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        weights.external_data.add(key=key, value=str(value))
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weights])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path = folder / name
    path.write_bytes(made.SerializeToString())
    return path


def test_external_data_beside_the_model_is_taken_in(tmp_path):
    path = external(tmp_path)
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    import_onnx(path, (), tmp_path / "elsewhere" / "out.onnx")
    (y,) = run_onnx(tmp_path / "elsewhere" / "out.onnx", {"x": np.ones((2, 3), "float32")})
    assert np.array_equal(y, np.ones((2, 3)) @ WEIGHTS)


@pytest.mark.parametrize("kind", ["missing", "absolute", "above", "symlink", "hardlink", "folder", "short"])
def test_external_data_that_leads_elsewhere_is_refused(tmp_path, kind):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(WEIGHTS.tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    location = {"absolute": str(secret), "above": "../secret.bin"}.get(kind, "w.bin")
    path = external(folder, location)
    if kind == "symlink":
        (folder / "w.bin").symlink_to(secret)
    elif kind == "hardlink":
        os.link(secret, folder / "w.bin")
    elif kind == "folder":
        (folder / "w.bin").mkdir()
    elif kind == "short":
        (folder / "w.bin").write_bytes(b"\0" * 4)
    message = {
        "missing": "is missing",
        "absolute": "not a relative path",
        "above": "outside the model's folder",
        "symlink": "outside the model's folder",
        "hardlink": "not a regular file",
        "folder": "not a regular file",
        "short": "is too short: 4 bytes, 48 are needed",
    }[kind]
    with pytest.raises(InputError, match=message):
        load_onnx(path)


@pytest.fixture
def cache(tmp_path):
    """A model hub's cache: each file of a snapshot is a link into the folder of blobs."""
    root = tmp_path / "models--acme--net"
    snapshot = root / "snapshots" / "0f1e2d" / "onnx"
    snapshot.mkdir(parents=True)
    (root / "blobs").mkdir()
    external(root / "blobs", name="aaaa", location="model.onnx_data")
    (root / "blobs" / "bbbb").write_bytes(WEIGHTS.tobytes())
    (snapshot / "model.onnx").symlink_to("../../../blobs/aaaa")
    (snapshot / "model.onnx_data").symlink_to("../../../blobs/bbbb")
    return snapshot


def require_imported(path, folder):
    import_checked(path, (), folder / "out.onnx")
    (y,) = run_onnx(folder / "out.onnx", {"x": np.ones((2, 3), "float32")})
    assert np.array_equal(y, np.ones((2, 3)) @ WEIGHTS)


def test_the_links_of_a_hubs_cache_are_followed(cache, tmp_path):
    require_imported(cache / "model.onnx", tmp_path)
    (tmp_path / "link.onnx").symlink_to(cache / "model.onnx")
    require_imported(tmp_path / "link.onnx", tmp_path)


def test_a_changed_model_in_a_hubs_cache_is_run_with_its_data(cache):
    """Intermediate values are read from a copy of the file in memory."""
    session = open_session(cache / "model.onnx", also=["w"])
    _, w = session.run(None, {"x": np.ones((2, 3), "float32")})
    assert np.array_equal(w, WEIGHTS)
    model = onnx.load_model(cache / "model.onnx", load_external_data=False)
    assert np.array_equal(array_of(model.graph.initializer[0], cache / "model.onnx"), WEIGHTS)


@pytest.mark.parametrize("target", ["../../../../secret", "../../../refs/main", "../../../blobs/out"])
def test_links_that_leave_a_hubs_cache_are_refused(cache, tmp_path, target):
    for file in (tmp_path / "secret", tmp_path / "models--acme--net" / "refs" / "main"):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(WEIGHTS.tobytes())
    (tmp_path / "models--acme--net" / "blobs" / "out").symlink_to(tmp_path / "secret")
    (cache / "model.onnx_data").unlink()
    (cache / "model.onnx_data").symlink_to(target)
    with pytest.raises(InputError, match="outside the model's folder") as caught:
        load_onnx(cache / "model.onnx")
    assert caught.value.next


def test_a_link_to_a_model_finds_the_data_beside_the_model(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    path = external(tmp_path / "a")
    (tmp_path / "a" / "w.bin").write_bytes(WEIGHTS.tobytes())
    (tmp_path / "b" / "m.onnx").symlink_to(path)
    require_imported(tmp_path / "b" / "m.onnx", tmp_path)


def test_a_chain_of_links_without_end_is_no_model(tmp_path):
    (tmp_path / "a.onnx").symlink_to("b.onnx")
    (tmp_path / "b.onnx").symlink_to("a.onnx")
    with pytest.raises(InputError, match="no such model file"):
        load_onnx(tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"offset": -4}, "has the offset '-4'"),
        ({"length": -1}, "has the length '-1'"),
        ({"length": "many"}, "has the length 'many'"),
        ({"length": 44}, "is stated as 44 bytes, but the tensor takes 48"),
        ({"offset": 4}, "is too short: 48 bytes, 52 are needed"),
        ({"offset": 2**70}, "is too short"),
    ],
)
def test_impossible_places_of_a_tensor_are_refused(tmp_path, entries, message):
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    with pytest.raises(InputError, match=message) as caught:
        load_onnx(external(tmp_path, **entries))
    assert caught.value.next


def test_a_part_of_a_file_is_read(tmp_path):
    (tmp_path / "w.bin").write_bytes(b"1234" + WEIGHTS.tobytes() + b"56")
    require_imported(external(tmp_path, offset=4, length=48), tmp_path)


def test_a_model_above_the_limit_is_refused_before_its_weights_are_read(tmp_path):
    path = external(tmp_path)
    model = onnx.load_model(path, load_external_data=False)
    model.graph.initializer[0].dims[:] = [3, MAX_BYTES // 12 + 1]
    path.write_bytes(model.SerializeToString())
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(2**32)  # a hole: takes no space
    with pytest.raises(
        InputError, match=r"weights are [0-9,]+ bytes, and the limit is 2,146,435,072"
    ) as caught:
        load_onnx(path)
    assert "float16 or int8" in caught.value.next
