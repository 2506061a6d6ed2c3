"""A file that is not what it should be is named by its content, with a step that can be pasted."""

import io
import pickle
import shlex
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from safetensors.torch import save_file

from edgepack.base.filekind import kind_of, use_of, wrong_kind


def net():
    return torch.nn.Linear(2, 2)


def model():
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    return helper.make_model(graph)


def zipped(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")


def tarred(path):
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("model.onnx"), io.BytesIO())


def saved_model(path):
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"x")


FILES = {
    "an ONNX model": lambda path: onnx.save(model(), path),
    "a safetensors file": lambda path: save_file(net().state_dict(), path),
    "a file of torch.save": lambda path: torch.save(net().state_dict(), path),
    "a file of torch.save, ": lambda path: torch.save(
        net().state_dict(), path, _use_new_zipfile_serialization=False
    ),
    "a TorchScript program": lambda path: torch.jit.script(net()).save(str(path)),
    "a program of torch.export.save": lambda path: zipped(path, "m/archive_format", "m/models/model.json"),
    "a Python pickle": lambda path: path.write_bytes(pickle.dumps({})),
    "an .npz file": lambda path: path.write_bytes(_npz()),
    "a single array": lambda path: path.write_bytes(_npy()),
    "a Git LFS pointer": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid x\n"),
    "a git-annex pointer": lambda path: path.write_text("/annex/objects/SHA256E-s1--x\n"),
    "a web page": lambda path: path.write_text("\n <!DOCTYPE html>\n<html>404"),
    "a text file that begins with '404: Not Found'": lambda path: path.write_text("404: Not Found"),
    "a recipe": lambda path: path.write_text("# mine\nedgepack: 1\nname: x\n"),
    "compressed with gzip": lambda path: path.write_bytes(b"\x1f\x8b\x08"),
    "a zip archive": lambda path: zipped(path, "model.onnx"),
    "a truncated zip archive": lambda path: path.write_bytes(b"PK\x03\x04cut"),
    "a truncated safetensors file": lambda path: path.write_bytes(b"\xff\x01\0\0\0\0\0\0{"),
    "a tar archive": tarred,
    "a TensorFlow Lite model": lambda path: path.write_bytes(b"\x1c\0\0\0TFL3"),
    "a Keras model": lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"),
    "a Keras model ": lambda path: zipped(path, "config.json", "model.weights.h5"),
    "a TensorFlow SavedModel": saved_model,
    "a folder": Path.mkdir,
    "empty": lambda path: path.write_bytes(b""),
}


def _npz():
    file = io.BytesIO()
    np.savez(file, x=1)
    return file.getvalue()


def _npy():
    file = io.BytesIO()
    np.save(file, np.zeros(2))
    return file.getvalue()


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("what", FILES)
def test_a_file_is_named_by_its_content(tmp_path, what):
    path = tmp_path / "Tf Model (v2).onnx"
    FILES[what](path)
    found = kind_of(path)
    assert found.what.startswith(what.strip(" ,"))
    for wanted in ("model", "weights", "arrays", "image", "recipe", "bundle"):
        wrong = wrong_kind(path, wanted)
        assert (wrong is None) == (found.holds == wanted)
        if wrong and wrong[1] and "Tf Model" in wrong[1]:
            assert str(path) in shlex.split(wrong[1].split("…")[-1])


def test_a_model_whose_ninth_byte_is_a_brace(tmp_path):
    """A safetensors file has one there, too, after the length of its header."""
    text = '<ir_version: 8, opset_import: ["" : 13]> g (float[1] xx) => (float[1] y) { y = Relu (xx) }'
    parsed = onnx.parser.parse_model(text)
    renamed = parsed.SerializeToString().replace(b"xx", b"{}")
    path = tmp_path / "m.onnx"
    path.write_bytes(renamed)
    assert renamed[8:9] == b"{"
    assert wrong_kind(path, "model") is None


def test_what_cannot_be_read_is_of_no_kind(tmp_path):
    assert wrong_kind(tmp_path / "none", "model") is None
    assert use_of(tmp_path / "none") is None


@given(st.binary(max_size=300))
def test_any_bytes_have_a_kind_or_none(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any bytes"
    path.write_bytes(data)
    wrong_kind(path, "model")


def test_a_text_that_is_cut_within_a_character(tmp_path):
    path = tmp_path / "text"
    path.write_text("a" + "ü" * 2000)
    assert kind_of(path).what.startswith("a text file")
