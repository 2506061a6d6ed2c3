"""``profile`` and ``roofline``: the kernels of a compiled net with their times, and what the board's CPU can do."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from programs import need

from edgepack.agent.build import link_agent
from edgepack.config.target import load_target
from edgepack.lower import compile_model

RUNS = 5


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """The folder of a release: two layers of the same form, which share a kernel, and a Softmax."""
    folder = tmp_path_factory.mktemp("profiled")
    for part in ("bin", "model"):
        (folder / part).mkdir()
    objects = folder / "objects.a"
    compiled = compile_model(
        write_net(folder / "net.onnx"), load_target("x86-64-v2"), folder / "model/model.so", objects=objects
    )
    link_agent("x86_64", objects, folder / "bin/edgepack-agent")
    np.save(folder / "x.npy", np.ones((2, 8), "float32"))
    return folder, compiled


def write_net(path):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).normal(size=(2, 8, 8)).astype("float32")
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["y"]),
        helper.make_node("MatMul", ["y", "b"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 8]) for name in ("x", "p")]
    constants = [numpy_helper.from_array(value, name) for name, value in zip("ab", weights, strict=True)]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def ask(folder, *words, program="bin/edgepack-agent", prefix=()):
    done = subprocess.run(
        [*prefix, program, *map(str, words)], cwd=folder, capture_output=True, timeout=120, check=False
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


PROFILE = ("profile", "--model", "model/model.so", "--input", "x.npy", "--runs", RUNS)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_calls_of_a_net_and_their_times(net, threads):
    folder, compiled = net
    code, (start, *calls, end) = ask(folder, *PROFILE, "--warmup", 2, "--threads", threads)
    assert (code, start["ok"], start["protocol"]) == (0, True, 1)
    assert (start["runs"], start["warmup"], start["threads"]) == (RUNS, 2, threads)
    assert start["kernels"] == [call.kernel for call in compiled.calls.calls]
    assert start["kernels"][0] == start["kernels"][1]
    assert len(calls) == len(start["kernels"])
    for call in calls:
        assert set(call) == {"min_ns", "median_ns", "p90_ns", "usual_ns"}
        assert 0 <= call["min_ns"] <= call["median_ns"] <= call["p90_ns"]
        assert call["usual_ns"] >= call["min_ns"]
    assert len(end["plain_ns"]) == len(end["profiled_ns"]) == RUNS
    # A whole inference with times is not shorter than its kernels.
    assert sum(call["usual_ns"] for call in calls) <= sorted(end["profiled_ns"])[(RUNS - 1) // 2]
    assert {"governor", "throttling"} <= set(start["before"]) & set(end["after"])


def test_the_dynamic_agent_says_the_same_of_kernels(net, bundle):
    code, (start, *calls, _) = ask(net[0], *PROFILE, program=bundle.agent)
    assert (code, start["kernels"]) == (0, [call.kernel for call in net[1].calls.calls])
    assert len(calls) == len(start["kernels"])


def test_models_of_the_virtual_machine_are_refused(bundle, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((1, 64), "float32"))
    code, (answer,) = ask(
        tmp_path,
        "profile",
        "--model",
        bundle.library("mlp"),
        "--input",
        "x.npy",
        program=bundle.agent,
    )
    assert (code, answer["kind"]) == (4, "model")
    assert "TVM's virtual machine executes the model" in answer["error"]


@pytest.mark.parametrize("words", [("--runs", 10_001), ("--runs", 0), ("--each",), ("--threads", 0)])
def test_wrong_options_of_a_profile(net, words):
    code, (answer,) = ask(net[0], "profile", "--model", "model/model.so", "--input", "x.npy", *words)
    assert (code, answer["kind"]) == (2, "usage")


def check_roofline(answer, threads):
    assert (answer["ok"], answer["threads"]) == (True, threads)
    for kind in ("float32", "int8"):
        assert answer[kind]["isa"]
        assert answer[kind]["gmacs"] > 0
    sizes = [level["bytes"] for level in answer["memory"]]
    assert sizes == sorted(sizes)
    assert len(sizes) > 2
    assert all(level["read_gbps"] > 0 and level["copy_gbps"] > 0 for level in answer["memory"])


@pytest.mark.parametrize("threads", [1, 3])
def test_what_the_cpu_can_do(net, threads):
    code, (answer,) = ask(net[0], "roofline", "--threads", threads)
    assert code == 0
    check_roofline(answer, threads)


@pytest.mark.parametrize(("cpu", "isa"), [("Nehalem", "sse2"), ("Haswell", "fma")])
def test_instructions_are_those_of_the_cpu(net, cpu, isa):
    """Under qemu, /proc/cpuinfo is the host's: an agent that took instructions from it would die."""
    qemu = need("qemu-x86_64-static", "qemu-user-static")
    code, (answer,) = ask(net[0], "roofline", prefix=(qemu, "-cpu", cpu))
    assert code == 0
    assert answer["float32"]["isa"] == isa


@pytest.mark.slow
def test_arm(tmp_path):
    from edgepack.agent.build import build_agent
    from edgepack.toolchain.zig import MUSL

    qemu = need("qemu-aarch64-static", "qemu-user-static")
    shutil.copy(build_agent("aarch64", MUSL), tmp_path / "agent")
    for cpu, isa in (("cortex-a53", "asimd"), ("cortex-a76", "asimddp")):
        code, (answer,) = ask(tmp_path, "roofline", program="./agent", prefix=(qemu, "-cpu", cpu))
        assert code == 0
        check_roofline(answer, 1)
        assert answer["int8"]["isa"] == isa
