"""The agent of a CPU release: one static executable with the model linked in, which needs nothing of the board."""

import json
import os
import shutil
import subprocess

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from programs import need

from edgepack.agent.build import build_agent, link_agent
from edgepack.config.target import load_target
from edgepack.export.reference import run_onnx
from edgepack.lower import compile_model
from edgepack.toolchain.zig import MUSL

ARCHES = {"x86-64-v2": "x86_64", "rpi4": "aarch64"}
INDICES = (1, 6)


def network(seed):
    """Rows of a table, chosen by indices, through a linear layer and a Softmax."""
    random = np.random.default_rng(seed)
    constants = {
        "table": random.normal(size=(20, 96)).astype("float32"),
        "w": random.normal(size=(96, 32)).astype("float32"),
    }
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["rows"]),
        helper.make_node("MatMul", ["rows", "w"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "rows",
        [helper.make_tensor_value_info("x", TensorProto.INT64, INDICES)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [*INDICES, 32])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Folders of a release for each architecture, and of another model; and what the model answers to ``x.npy``."""
    root = tmp_path_factory.mktemp("releases")
    x = np.array([[0, 3, 19, 7, 7, 1]])
    for name, target, seed in (("x86-64-v2", "x86-64-v2", 1), ("rpi4", "rpi4", 1), ("other", "x86-64-v2", 2)):
        folder = root / name
        for part in ("bin", "model"):
            (folder / part).mkdir(parents=True)
        onnx.save(network(seed), folder / "net.onnx")
        objects = folder / "objects.a"
        compiled = compile_model(
            folder / "net.onnx", load_target(target), folder / "model/model.so", objects=objects
        )
        assert (compiled.executor, compiled.objects) == ("aot", objects)
        link_agent(ARCHES[target], objects, folder / "bin/edgepack-agent")
        np.save(folder / "x.npy", x)
    (expected,) = run_onnx(root / "x86-64-v2/net.onnx", {"x": x})
    return root, expected


def ask(folder, *words, prefix=(), **options):
    """Exit code and last line of the agent in a folder, which is its current one."""
    done = subprocess.run(
        [*prefix, "bin/edgepack-agent", *words],
        cwd=folder,
        capture_output=True,
        timeout=120,
        check=False,
        **options,
    )
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


RUN = ("run", "--model", "model/model.so", "--input", "x.npy", "--output-dir", ".")


@pytest.mark.parametrize("name", ARCHES)
def test_it_runs_the_model_that_it_is_linked_with(release, name, tmp_path):
    root, expected = release
    prefix = () if name == "x86-64-v2" else (need("qemu-aarch64-static", "qemu-user-static"),)
    shutil.copytree(root / name, tmp_path, dirs_exist_ok=True)
    code, answer = ask(tmp_path, *RUN, prefix=prefix)
    assert (code, answer["ok"]) == (0, True)
    np.testing.assert_allclose(np.load(tmp_path / "output-0.npy"), expected, rtol=1e-5, atol=1e-6)
    bench = ("bench", "--model", "model/model.so", "--input", "x.npy", "--runs", "3", "--threads", "2")
    code, answer = ask(tmp_path, *bench, prefix=prefix)
    assert (code, answer["outputs"]) == (0, [{"dtype": "float32", "shape": [1, 6, 32], "nan": 0, "inf": 0}])


@pytest.mark.parametrize("name", ARCHES)
def test_it_needs_nothing_of_the_board(release, name):
    agent = release[0] / name / "bin/edgepack-agent"
    header = subprocess.run(
        [need("objdump", "binutils"), "-p", agent], capture_output=True, text=True, check=True
    ).stdout
    assert "NEEDED" not in header
    assert "INTERP" not in header


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for chroot")
def test_a_folder_with_nothing_else_in_it_is_enough(release, tmp_path):
    root, expected = release
    shutil.copytree(root / "x86-64-v2", tmp_path / "root")
    code, answer = ask(tmp_path / "root", *RUN, prefix=(need("chroot", "coreutils"), "."), env={})
    assert (code, answer["ok"]) == (0, True)
    np.testing.assert_allclose(np.load(tmp_path / "root/output-0.npy"), expected, rtol=1e-5, atol=1e-6)


def test_linking_again_gives_the_same_bytes(release, tmp_path):
    folder = release[0] / "x86-64-v2"
    again = compile_model(
        folder / "net.onnx", load_target("x86-64-v2"), tmp_path / "m.so", objects=tmp_path / "elsewhere.a"
    )
    assert again.objects.read_bytes() == (folder / "objects.a").read_bytes()
    agent = link_agent("x86_64", again.objects, tmp_path / "agent")
    assert agent.read_bytes() == (folder / "bin/edgepack-agent").read_bytes()


def test_another_model_is_refused(release):
    root, _ = release
    code, answer = ask(root / "x86-64-v2", "run", "--model", root / "other/model/model.so", *RUN[3:])
    assert (code, answer["kind"]) == (4, "model")
    assert "it runs the model that it is linked with" in answer["error"]


def test_the_weights_of_another_model_are_refused(release, tmp_path):
    root, _ = release
    shutil.copytree(root / "x86-64-v2", tmp_path, dirs_exist_ok=True)
    shutil.copy(root / "other/model/model.so.weights", tmp_path / "model")
    code, answer = ask(tmp_path, *RUN)
    assert (code, answer["kind"]) == (3, "input")
    assert "another model" in answer["error"]


def test_indices_are_checked(release, tmp_path):
    shutil.copytree(release[0] / "x86-64-v2", tmp_path, dirs_exist_ok=True)
    np.save(tmp_path / "x.npy", np.array([[0, 3, 20, 7, 7, 1]]))
    code, answer = ask(tmp_path, *RUN)
    assert (code, answer["kind"]) == (3, "input")
    assert "index 20 (element 2 of 'x') is out of range: must be -20 to 19" in answer["error"]


def test_an_agent_without_a_model_says_so(release):
    folder = release[0] / "x86-64-v2"
    done = subprocess.run(
        [build_agent("x86_64", MUSL), *RUN], cwd=folder, capture_output=True, timeout=60, check=False
    )
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["kind"]) == (4, "model")
    assert "no model is linked with it" in answer["error"]


def test_a_static_agent_has_no_gpu(release):
    code, answer = ask(release[0] / "x86-64-v2", *RUN, "--device", "cuda")
    assert (code, answer["kind"]) == (7, "device")


def test_the_dynamic_agent_runs_the_same_library(release, tmp_path):
    root, expected = release
    shutil.copytree(root / "x86-64-v2", tmp_path, dirs_exist_ok=True)
    shutil.copy(build_agent("x86_64", "2.27"), tmp_path / "bin/edgepack-agent")
    code, answer = ask(tmp_path, *RUN)
    assert (code, answer["ok"]) == (0, True)
    np.testing.assert_allclose(np.load(tmp_path / "output-0.npy"), expected, rtol=1e-5, atol=1e-6)
