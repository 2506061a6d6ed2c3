"""Models with a weights file: decoded when they are loaded, and refused if the file is not theirs."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from programs import need

from edgepack.bundle.examples import example_files, header_files
from edgepack.config.target import load_target
from edgepack.export.reference import run_onnx
from edgepack.lower import compile_model
from edgepack.weightfile.file import weights_path

SHAPE = (1, 96)


def network(seed):
    """A linear layer with int8 weights."""
    random = np.random.default_rng(seed)
    constants = {
        "q": random.integers(-127, 128, (32, 96)).astype("int8"),
        "s": random.uniform(0.01, 0.02, 32).astype("float32"),
        "b": random.normal(size=32).astype("float32"),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=0),
        helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models of the same form, compiled for every x86-64 CPU: no kernel decodes their weights."""
    folder = tmp_path_factory.mktemp("models")
    for name, seed in (("a", 1), ("b", 2)):
        onnx.save(network(seed), folder / f"{name}.onnx")
        compiled = compile_model(folder / f"{name}.onnx", load_target("x86-64-v2"), folder / f"{name}.so")
        assert ("int8", "load") in {(each.encoding, each.decoded) for each in compiled.constants}
    return folder


@pytest.fixture
def x(tmp_path):
    value = np.random.default_rng(3).standard_normal(SHAPE).astype(np.float32)
    np.save(tmp_path / "x.npy", value)
    return value


def run(bundle, library, folder):
    return bundle.run("run", "--model", library, "--input", folder / "x.npy", "--output-dir", folder)


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_agent_decodes_weights_at_load(bundle, models, x, tmp_path, name):
    done = run(bundle, models / f"{name}.so", tmp_path)
    assert done.returncode == 0, done.stderr
    (want,) = run_onnx(models / f"{name}.onnx", {"x": x})
    np.testing.assert_allclose(np.load(tmp_path / "output-0.npy"), want, rtol=1e-4, atol=1e-5)


def test_a_decoded_model_runs_under_sanitizers(bundle, sanitized, models, x, tmp_path):
    argv = [
        sanitized,
        "run",
        "--model",
        models / "a.so",
        "--input",
        tmp_path / "x.npy",
        "--output-dir",
        tmp_path,
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def flip(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


SPOILT = {
    "missing": (Path.unlink, "it cannot be opened: No such file or directory"),
    "of another model": (lambda path: shutil.copy(path.with_name("b"), path), "it belongs to another model"),
    "damaged": (flip, "is damaged"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "its header does not match its size"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "it is not a regular file"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_weights_file_that_is_not_the_models_is_an_input_error(bundle, models, x, tmp_path, case):
    library = Path(shutil.copy(models / "a.so", tmp_path))
    weights = Path(shutil.copy(weights_path(models / "a.so"), tmp_path))
    shutil.copy(weights_path(models / "b.so"), tmp_path / "b")
    spoil, why = SPOILT[case]
    spoil(weights)
    done = run(bundle, library, tmp_path)
    line = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, line["kind"]) == (3, "input")
    assert why in line["error"]
    assert str(weights) in line["error"]


COMPILERS = {"c": ("cc", "gcc"), "cpp": ("c++", "g++"), "rs": ("rustc", "rustc")}
RUST = pytest.param(
    "rs",
    marks=[
        pytest.mark.slow,
        pytest.mark.skipif(shutil.which("rustc") is None, reason="needs rustc: apt-get install rustc"),
    ],
)


@pytest.mark.parametrize("language", ["c", "cpp", "py", RUST])
def test_the_examples_of_a_model_with_its_own_runtime(models, x, tmp_path, language):
    root = tmp_path / "bundle"
    for folder in ("model", "sample", "examples", "include"):
        (root / folder).mkdir(parents=True)
    shutil.copy(models / "a.so", root / "model" / "model.so")
    shutil.copy(weights_path(models / "a.so"), weights_path(root / "model" / "model.so"))
    np.save(root / "sample/input-0.npy", x)
    for folder, files in (("examples", example_files("aot")), ("include", header_files("aot"))):
        for name, path in files.items():
            shutil.copy(path, root / folder / name)
    examples = root / "examples"
    if language in COMPILERS:
        compiler, package = COMPILERS[language]
        need(compiler, package)
        pattern = rf"^    ({re.escape(compiler)} .*)$"
        (command,) = re.findall(pattern, (examples / "README.md").read_text(), re.MULTILINE)
        strict = "-D warnings" if language == "rs" else "-Wextra -Werror"
        subprocess.run(["sh", "-ec", f"{command} {strict}"], cwd=examples, check=True)
    argv = [sys.executable, "infer.py"] if language == "py" else ["./infer"]
    done = subprocess.run(argv, cwd=examples, capture_output=True, text=True, check=True)
    (want,) = run_onnx(models / "a.onnx", {"x": x})
    index, value = done.stdout.split()[:2]
    assert int(index) == want.argmax()
    assert float(value) == pytest.approx(want.max(), rel=1e-4)
