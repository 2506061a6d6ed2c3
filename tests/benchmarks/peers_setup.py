"""A net of one multiplication and fast settings of the peers benchmark, for its tests."""

import os
from pathlib import Path

import numpy as np
import onnx
import peers_fakes
from onnx import TensorProto, helper, numpy_helper

from benchmarks.kit.interleaving import TimingPlan
from benchmarks.kit.nets import Artifacts, write_references
from benchmarks.peers.measure import Settings
from benchmarks.peers.prepare import Contestants

HERE = Path(__file__).parent
CORES = tuple(sorted(os.sched_getaffinity(0)))
REGISTRY = Contestants("peers_fakes:CONTESTANTS", peers_fakes.CONTESTANTS, (HERE,))
QUICK = TimingPlan(rounds=3, block_ns=2_000_000, untimed_ns=0, burst=3, drift=100.0, warm_ns=20_000_000)


def doubling(folder):
    """The files of y = 2 x."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3))],
        [numpy_helper.from_array(np.array([2], np.float32), "two")],
    )
    folder.mkdir()
    made = Artifacts.below(folder, "double", "Doubling", 3)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), made.onnx)
    x = np.arange(1, 7, dtype=np.float32).reshape(2, 1, 3)
    np.savez(made.calibration, x=x)
    np.savez(made.inputs, x=x)
    made.weights.touch()
    write_references(made)
    return made


def quick():
    """Settings with the fake contestants, a canary that never drifts, and few short blocks."""
    machine = {
        "kind": "a-cpu",
        "cpu": "a cpu",
        "core": "a core",
        "cores": 2,
        "virtual": False,
        "memory_gib": 1.0,
        "system": "Linux",
        "cache_bytes": 0,
    }
    return Settings(
        registry=REGISTRY,
        plan=QUICK,
        canary=lambda: 1000,
        cores=CORES,
        prepare_minutes=1.0,
        colds=2,
        machine=machine,
        say=[].append,
    )
