"""Compiled models give the same results as onnxruntime; their kernels are those that tuning sees."""

import hashlib
import re
import subprocess
import sys

import numpy as np
import pytest

from edgepack.config.target import load_target
from edgepack.export.reference import run_onnx
from edgepack.lower import compile_model, phases, tuning_tasks
from edgepack.lower.host import open_on_host
from edgepack.weightfile.file import weights_path


@pytest.fixture(scope="module")
def x86():
    return load_target("x86-64-v3")


@pytest.fixture(scope="module")
def names(x86):
    return phases.names(phases.phases_for(x86))


def run(path, *inputs):
    (found,) = open_on_host(path)(*inputs)
    return found


def reference(path, value):
    return run_onnx(path, {"x": value})[0]


_CLOCKED = """
import pathlib, sys
from edgepack.config.target import load_target
from edgepack.lower import build

readings = []

class Clock:
    def monotonic():
        readings.append({name.partition(".")[0] for name in sys.modules})
        return 0.0

build.time = Clock
build.compile_model(pathlib.Path(sys.argv[1]), load_target("x86-64-v3"), pathlib.Path(sys.argv[2]))
print(*sorted({"tvm", "torch", "onnx", "onnxscript"} & (readings[-1] - readings[0])))
"""


def test_importing_packages_is_no_part_of_the_seconds(network, tmp_path):
    argv = [sys.executable, "-c", _CLOCKED, str(network), str(tmp_path / "m.so")]
    assert subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip() == ""


def test_fp32_network_matches_onnxruntime(network, x86, tmp_path, names):
    dump, steps = tmp_path / "dump", []
    compiled = compile_model(network, x86, tmp_path / "m.so", dump=dump, progress=steps.append)
    value = np.random.default_rng(1).normal(size=(1, 3, 15, 15)).astype("float32")
    expected = reference(network, value)
    got = run(compiled.path, value)
    assert np.abs(got - expected).max() / np.abs(expected).max() < 1e-5
    assert [spec.shape for spec in compiled.inputs] == [(1, 3, 15, 15)]
    assert [(spec.name, spec.shape, spec.dtype) for spec in compiled.outputs] == [("y", (1, 10), "float32")]
    assert sorted(path.name for path in dump.iterdir()) == [f"{i:02d}-{n}.py" for i, n in enumerate(names)]
    assert steps == [*names, "build", "link"]
    assert not any(kernel.tuned for kernel in compiled.kernels)
    assert {kernel.calls for kernel in compiled.kernels} == {1}


def test_weights_are_packed_before_run_time(network, x86, tmp_path, names):
    compile_model(network, x86, tmp_path / "m.so", dump=tmp_path)
    prepacked = (tmp_path / f"{names.index('prepack'):02d}-prepack.py").read_text()
    assert "_prepacked" in prepacked
    assert "weight_prepack" not in prepacked


def test_the_same_model_gives_the_same_bytes(network, x86, tmp_path):
    paths = [compile_model(network, x86, tmp_path / name).path for name in ("a.so", "elsewhere/b.so")]
    for written in (paths, [weights_path(path) for path in paths]):
        assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in written}) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.so", "a.so.weights", "elsewhere"]


def test_quantized_network_matches_up_to_rounding(quantized_network, x86, tmp_path, names):
    """Other summation orders may round to an adjacent quantum: few outputs, one quantum each."""
    compiled = compile_model(quantized_network, x86, tmp_path / "q.so", dump=tmp_path)
    random = np.random.default_rng(2)
    differences = []
    for _ in range(20):
        value = random.normal(size=(1, 3, 15, 15)).astype("float32")
        differences.append(np.abs(run(compiled.path, value) - reference(quantized_network, value)))
    assert np.median(differences) < 1e-5
    assert np.max(differences) < 0.2, "more than a few flips of the activations' quantum, 0.05"
    folded = (tmp_path / f"{names.index('fold-weights'):02d}-fold-weights.py").read_text()
    remaining = [line for line in folded.splitlines() if "R.dequantize(metadata" in line]
    assert not remaining


def test_a_record_of_a_task_is_found_by_the_build(network, x86, tmp_path):
    from tvm.s_tir import meta_schedule as ms
    from tvm.s_tir.schedule import Schedule

    records = tmp_path / "records"
    records.mkdir()
    tasks = tuning_tasks(network, x86)
    database = ms.database.JSONDatabase(str(records / "workload.json"), str(records / "tuning_record.json"))
    task = next(task for task in tasks if "matmul" in task.task_name)
    sch = Schedule(task.dispatched[0])
    sch.parallel(sch.get_loops(sch.get_sblock("matmul"))[1])
    workload = database.commit_workload(task.dispatched[0])
    database.commit_tuning_record(ms.database.TuningRecord(sch.trace, workload, [1e-5], task.target, None))

    compiled = compile_model(network, x86, tmp_path / "m.so", records=records)
    assert {k.name for k in compiled.kernels if k.tuned} == {
        k.name for k in compiled.kernels if "matmul" in k.name
    }
    assert sum(k.calls for k in compiled.kernels) == sum(task.weight for task in tasks)
    value = np.ones((1, 3, 15, 15), "float32")
    np.testing.assert_allclose(run(compiled.path, value), reference(network, value), rtol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "rpi4",
        "x86-64-v4",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("arm64", "rpi3", "rpi5", "jetson-cpu")),
    ],
)
def test_every_cpu_target_links(name, network, tmp_path):
    target = load_target(name)
    compiled = compile_model(network, target, tmp_path / "m.so")
    data = compiled.path.read_bytes()
    machine = {"aarch64": 183, "x86_64": 62}[target.abi.arch]
    assert data[:4] == b"\x7fELF"
    assert int.from_bytes(data[18:20], "little") == machine
    floor = int(target.abi.libc.split(".")[1])
    needed = [int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", data)]
    assert all(minor <= floor for minor in needed)
    assert any(f"glibc {target.abi.libc}" in need for need in compiled.requires)
