"""The process of a contestant: suspended, resumed, hung, orphaned, and its imports."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from peers_setup import CORES, HERE, REGISTRY, doubling

from benchmarks.kit.environments import Environment
from benchmarks.kit.processes import ProcessFailed


@pytest.fixture
def net(tmp_path):
    return doubling(tmp_path / "net")


def children():
    return {child.pid for child in psutil.Process().children(recursive=True)}


def worker(tmp_path, name):
    return REGISTRY.start(name, Environment(Path(sys.executable), {}), CORES[:1], tmp_path)


def answer(running, net, tmp_path):
    task = {
        "net": "double",
        "onnx": str(net.onnx),
        "weights": "",
        "calibration": str(net.calibration),
        "precision": "fp32",
        "threads": 1,
        "folder": str(tmp_path),
        "trials": 1,
        "minutes": 1,
    }
    made = running.ask("prepare", 30, task=task)
    running.ask("load", 30, task=task, prepared=made)
    running.ask("run", 30, inputs=net.inputs, reference=net.reference)


def test_a_hanging_worker_is_ended_with_all_it_started(net, tmp_path):
    before = children()
    with worker(tmp_path, "hanging") as running:
        answer(running, net, tmp_path)
        with pytest.raises(ProcessFailed, match="no answer to 'time' within 1 s") as caught:
            running.ask("time", 1, untimed=0, runs=1)
    assert caught.value.timed_out
    time.sleep(0.1)
    assert {pid for pid in children() - before if psutil.Process(pid).status() != "zombie"} == set()


def test_a_stopped_worker_answers_when_it_is_continued(net, tmp_path):
    with worker(tmp_path, "right") as running:
        answer(running, net, tmp_path)
        running.stop()
        (process,) = [
            child for child in psutil.Process().children() if "benchmarks.peers.server" in child.cmdline()
        ]
        deadline = time.monotonic() + 20  # a signal takes effect when the process is next seen to
        while process.status() != "stopped" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.status() == "stopped"
        assert process.cpu_affinity() == [CORES[0]]
        running.resume()
        assert len(running.ask("time", 30, untimed=2, runs=5)["samples_ns"]) == 5
    assert not process.is_running()


def test_a_worker_ends_when_the_benchmark_is_killed(net, tmp_path):
    program = (
        f"import sys, time; sys.path[:0] = [{str(HERE.parents[1])!r}, {str(HERE)!r}];"
        "from test_peers_processes import worker; from pathlib import Path;"
        f"w = worker(Path({str(tmp_path)!r}), 'right'); print(w._process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        deadline = time.monotonic() + 20
        while "oom" not in _oom(pid) and time.monotonic() < deadline:  # set after the death signal is
            time.sleep(0.05)
        parent.kill()
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie":
        assert time.monotonic() < deadline, "the worker lives on"
        time.sleep(0.05)


def _oom(pid):
    try:
        return "oom" if Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "1000" else ""
    except FileNotFoundError:
        return "oom"


def test_contestants_import_nothing_heavy():
    program = (
        "import sys, benchmarks.peers.contestants, benchmarks.peers.server;"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=HERE.parents[1], capture_output=True, text=True, check=True
    )
    assert {name for name in done.stdout.split() if not name.startswith("_")} <= {"benchmarks", "numpy"}
