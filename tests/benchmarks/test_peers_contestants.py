"""The contestants based on edgepack and TVM on a tiny net: outputs and errors, never time."""

import json
import os
import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.peers import protocol
from benchmarks.peers.contestants import CONTESTANTS
from benchmarks.peers.contestants.edgepack import AgentSession, Edgepack
from benchmarks.peers.contestants.torch_compile import TorchCompile
from benchmarks.peers.contestants.tvm import Tvm
from benchmarks.peers.protocol import Assignment, Unsupported, size
from benchmarks.peers.server import ContestantServer
from edgepack.export.reference import run_onnx

OURS = {"edgepack": Edgepack, "tvm": Tvm}
SHAPES = {"x": (1, 4, 8, 8), "a": (1, 6), "b": (1, 6)}
# What contestants set for their own process, which here is the tests'.
VARIABLES = ("XDG_DATA_HOME", "TVM_USE_RUNTIME_LIB", "TVM_NUM_THREADS", "TVM_BIND_THREADS")


@pytest.fixture(autouse=True)
def _restored_environment(monkeypatch):
    for name in VARIABLES:
        before = os.environ.get(name)
        monkeypatch.setenv(name, before or "")  # remembers what to restore
        if before is None:
            monkeypatch.delenv(name)


def value(name, shape=None):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape or SHAPES[name])


def convolution():
    """3x3 with a ReLU, then the mean of each channel."""
    weights = np.random.default_rng(0).standard_normal((8, 4, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="c", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="r"),
        helper.make_node("GlobalAveragePool", ["r"], ["y"], name="y"),
    ]
    return helper.make_graph(
        nodes, "net", [value("x")], [value("y", (1, 8, 1, 1))], [numpy_helper.from_array(weights, "w")]
    )


def two_inputs():
    """a - b: inputs that must not be swapped."""
    node = helper.make_node("Sub", ["a", "b"], ["y"], name="y")
    return helper.make_graph([node], "net", [value("a"), value("b")], [value("y", (1, 6))])


def unknown_to_tvm():
    """An operator that neither TVM's importer nor edgepack supports at this size."""
    node = helper.make_node("Det", ["m"], ["y"], name="the_determinant")
    return helper.make_graph([node], "net", [value("m", (2, 6, 6))], [value("y", (2,))])


@pytest.fixture
def task(tmp_path):
    """A function that creates the task of a graph."""

    def make(graph, precision="fp32"):
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, tmp_path / "model.onnx")
        random = np.random.default_rng(1)
        shapes = {
            given.name: [dim.dim_value for dim in given.type.tensor_type.shape.dim] for given in graph.input
        }
        samples = {
            name: random.standard_normal((8, *shape), dtype=np.float32) for name, shape in shapes.items()
        }
        np.savez(tmp_path / "calibration.npz", **samples)
        (tmp_path / "cells" / "net").mkdir(parents=True)
        return Assignment(
            net="net",
            onnx=tmp_path / "model.onnx",
            weights=tmp_path / "weights.pt",
            calibration=tmp_path / "calibration.npz",
            precision=precision,
            threads=1,
            folder=tmp_path / "cells" / "net",
            trials=0,
            minutes=1.0,
        )

    return make


def reference(task, inputs):
    return run_onnx(Path(task.onnx), inputs)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(
    ("graph", "precision"), [(convolution, "fp32"), (convolution, "int8"), (two_inputs, "fp32")]
)
def test_outputs_are_those_of_onnxruntime(task, name, graph, precision):
    cell = task(graph(), precision)
    contestant = OURS[name]()
    prepared = contestant.prepare(cell)
    assert size(prepared.model) > 0
    if name == "edgepack":
        assert 30_000 < size(prepared.runtime) < 150_000  # the agent
    else:
        assert size(prepared.runtime) > 1_000_000  # TVM's runtime
    assert ("quantization" in prepared.notes) == (precision == "int8")
    json.dumps(dict(prepared.notes))
    session = contestant.load(cell, prepared)
    for sample in cell.calibration_samples()[:2]:
        (got,), (want,) = session.run(sample), reference(cell, sample)
        assert got.shape == want.shape
        tolerance = 1e-5 if precision == "fp32" else 0.05
        assert np.abs(got - want).max() <= tolerance * np.abs(want).max()
    samples = session.time(7)
    assert len(samples) == 7
    assert min(samples) > 0


@pytest.mark.parametrize(
    ("cpu", "needless"),
    [(("avx2", "x86_64"), False), (("avx2 avx_vnni", "x86_64"), True), (("asimd", "aarch64"), True)],
    ids=["avx2", "vnni", "arm"],
)
def test_precise_modes_are_for_cpus_that_saturate(task, tmp_path, monkeypatch, cpu, needless):
    flags, machine = cpu
    monkeypatch.setattr(protocol, "CPUINFO", tmp_path / "cpuinfo")
    protocol.CPUINFO.write_text(f"flags : {flags}\n")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    cell = task(convolution(), "int8")
    for name in ("onnxruntime_precise", "openvino_precise") if needless else ():
        with pytest.raises(Unsupported, match="not needed: this CPU multiplies int8 without saturation"):
            CONTESTANTS[name].prepare(cell)
    if not needless:
        contestant = CONTESTANTS["onnxruntime_precise"]
        prepared = contestant.prepare(cell)
        assert prepared.notes["session.x64quantprecision"] == "1"
        session = contestant.load(cell, prepared)
        exact = run_onnx(prepared.exact, cell.calibration_samples()[0])
        (got,) = session.run(cell.calibration_samples()[0])
        assert np.abs(got - exact[0]).max() <= 0.01 * np.abs(exact[0]).max()


def test_contestants_of_one_file_share_an_environment():
    homes = {name: contestant.home for name, contestant in CONTESTANTS.items()}
    assert homes["openvino_precise"] == homes["openvino"] == "openvino"
    assert CONTESTANTS["openvino_precise"].requirements == CONTESTANTS["openvino"].requirements
    assert homes["tvm_metaschedule"] != homes["tvm"]


def test_a_block_of_the_agents_is_one_process(task, monkeypatch):
    started = []

    def agent(_self, *, warmup, runs):
        started.append((warmup, runs))
        return [1_000_000] * runs

    monkeypatch.setattr(AgentSession, "_samples", agent)
    server = ContestantServer("benchmarks.peers.contestants:CONTESTANTS", "edgepack")
    server.session = AgentSession(task(two_inputs()))
    for _ in range(2):
        assert len(server.time({"untimed": 15, "runs": 7})["samples_ns"]) == 7
    assert started == [(1, 3), (100, 7), (100, 7)], "the first is a look at the latency"


def test_a_cold_start_of_the_bundle_is_the_agents(task):
    cell = task(two_inputs())
    contestant = Edgepack()
    prepared = contestant.prepare(cell)
    cold = contestant.cold(cell, prepared, cell.calibration_samples()[0])
    assert cold.start_ns > cold.load_ns > 0
    assert 100 < cold.peak_rss_kib < 100_000  # the agent's: Python alone with numpy has more
    assert {path.parent.name for path in (*prepared.model, *prepared.runtime)} == {"model", "bin"}


def test_the_agents_own_words_are_the_reason(task):
    cell = task(two_inputs())
    contestant = Edgepack()
    contestant.prepare(cell)
    session = contestant.load(cell, None)
    with pytest.raises(RuntimeError, match=r"the agent failed: input 1 \(b\) is float32 \[1, 7\]"):
        session.run({"a": np.zeros((1, 6), np.float32), "b": np.zeros((1, 7), np.float32)})


@pytest.mark.parametrize("name", OURS)
def test_an_operator_nobody_can_import_is_named(task, name):
    with pytest.raises(Unsupported, match="Det"):
        OURS[name]().prepare(task(unknown_to_tvm()))


def test_edgepack_says_that_its_calibration_feeds_one_input(task):
    with pytest.raises(Unsupported, match="quantize-static: the model has the inputs"):
        Edgepack().prepare(task(two_inputs(), "int8"))


def test_without_a_compiler_there_is_no_inductor(task, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(Unsupported, match="no-such-compiler"):
        TorchCompile().prepare(task(convolution()))


def test_all_four_are_registered():
    for name in ("edgepack", "tvm", "tvm_metaschedule", "torch_compile"):
        assert CONTESTANTS[name].precisions == ("fp32", "int8")


def test_task_of_other_threads_is_the_same_but_for_them(task):
    cell = task(two_inputs())
    contestant = Edgepack()
    prepared = contestant.prepare(cell)
    session = contestant.load(replace(cell, threads=2), prepared)
    sample = cell.calibration_samples()[0]
    np.testing.assert_array_equal(session.run(sample)[0], sample["a"] - sample["b"])
    assert len(session.time(3)) == 3
