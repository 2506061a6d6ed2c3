"""The real agent, a compiled model and real processes, without SSH."""

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.agent import protocol
from edgepack.agent.build import build_agent
from edgepack.agent.protocol import BoardModel
from edgepack.agent.results import BenchRaw, State, Throttling
from edgepack.bundle.runtime import runtime_libs
from edgepack.config.target import load_target
from edgepack.errors import AgentError, InputError
from edgepack.lower import compile_model
from edgepack.measuring import measure as module
from edgepack.measuring.measure import board_state, evaluate, lasting, measure
from edgepack.measuring.measurement import Measurement
from edgepack.measuring.stats import summary
from edgepack.scoring import Scorer
from edgepack.toolchain.zig import MUSL

CLASSES, FEATURES = 5, 12


class Here:
    """A session with this machine through local processes."""

    name = "here"

    def run(self, argv: Sequence[str], *, timeout: float | None = None, check: bool = False):
        return subprocess.run(argv, capture_output=True, timeout=timeout, check=check)

    def agent(self) -> str:
        return str(build_agent(platform.machine(), MUSL))

    def put_bytes(self, data: bytes, dest: str) -> None:
        Path(dest).write_bytes(data)

    def get(self, source: str, dest: Path) -> None:
        shutil.copy(source, dest)


@pytest.fixture(scope="module")
def weights():
    return np.random.default_rng(3).normal(size=(FEATURES, CLASSES)).astype(np.float32)


@pytest.fixture(scope="module")
def board(tmp_path_factory, weights):
    """The agent and a linear classifier in the layout of a bundle."""
    if platform.machine() != "x86_64":
        missing = "needs an x86-64 machine to run the x86-64-v3 target on"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    root = tmp_path_factory.mktemp("board")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), root / "m.onnx"
    )
    target = load_target("x86-64-v3")
    for folder in ("bin", "lib", "model"):
        (root / folder).mkdir()
    compile_model(root / "m.onnx", target, root / "model/model.so")
    shutil.copy(build_agent(target.abi.arch, target.abi.libc), root / "bin/edgepack-agent")
    for name, path in runtime_libs("x86_64").items():
        shutil.copy(path, root / "lib" / name)
    return BoardModel(
        Here(), str(root / "bin/edgepack-agent"), str(root / "model/model.so"), scratch=str(root)
    )


def test_a_measurement_holds_what_the_agent_measured(board, tmp_path):
    x = np.ones((1, FEATURES), np.float32)
    found = measure(board, {"x": x}, runs=50, warmup=3, emulated=False)
    assert len(found.samples_ns) >= 50
    assert found.warmup >= 3
    assert (found.starts >= 3, found.threads, found.device) == (True, 1, "here")
    assert found.latency == summary(found.samples_ns)
    assert found.load_ms > 0
    assert found.first_ms > 0
    assert found.peak_rss_kib > 1000
    assert found.before.memory_available_kib > 0
    assert found.verdict.valid == (not found.verdict.reasons)
    assert Measurement.load(found.save(tmp_path / "m.json")) == found


def test_load_and_first_inference_are_medians_of_several_starts(board, monkeypatch):
    raws = []
    monkeypatch.setattr(module.protocol, "bench", lambda *_, **__: raws.pop(0))
    times = (9.0, 1.0, 2.0, 3.0, 2.0)
    state = State.model_construct(
        governor=(), frequency_khz=(), temperature=(), load_1min=0.0, memory_available_kib=1,
        throttling=Throttling(events=0),
    )  # fmt: skip
    raws += [
        BenchRaw.model_construct(
            load_ms=ms, first_ms=ms / 2, samples_ns=(100, 120), threads=1, warmup=0, peak_rss_kib=1, before=state, after=state
        )
        for ms in times
    ]  # fmt: skip
    found = measure(board, {}, warmup=0, runs=2, emulated=False)
    assert (found.starts, found.load_ms, found.first_ms) == (5, 2.0, 1.0)
    assert not raws


@pytest.mark.parametrize(
    ("pace_ns", "warmup", "runs", "expected"),
    [
        (10e6, 10, 100, (10, 100)),  # a second and more already
        (1e6, 10, 100, (10, 990)),
        (1e5, 0, 100, (0, 10_000)),
        (1e4, 10, 100, (90_000, 10_000)),  # more samples would tell no more
        (1e4, 10, 20_000, (80_000, 20_000)),
        (1.0, 0, 2, (1_000_000, 10_000)),
        (2e9, 0, 2, (0, 2)),
    ],
)
def test_a_measurement_takes_a_second(pace_ns, warmup, runs, expected):
    assert lasting(pace_ns, warmup, runs) == expected


def test_an_emulated_measurement_is_labelled_and_not_valid(board):
    x = np.ones((1, FEATURES), np.float32)
    found = measure(board, {"x": x}, runs=40, warmup=0, emulated=True)
    assert found.emulated
    assert (found.starts, len(found.samples_ns), found.warmup) == (1, 40, 0)
    assert not found.verdict.valid
    assert "emulated" in found.verdict.reasons[0]


def test_accuracy_and_parity_come_from_the_board(board, weights, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_BYTES", 10 * FEATURES * 4)  # 33 samples go in four chunks
    x = np.random.default_rng(4).normal(size=(33, 1, FEATURES)).astype(np.float32)
    expected = (x @ weights).astype(np.float32)
    labels = expected.argmax(axis=-1).reshape(-1)
    labels[:11] = (labels[:11] + 1) % CLASSES
    found = evaluate(board, {"x": x}, scorer=Scorer(), targets=labels, reference=[expected])
    assert found.samples == 33
    assert found.score.value == pytest.approx(22 / 33)
    assert found.parity < 1e-6
    wrong = evaluate(board, {"x": x}, scorer=Scorer(), reference=[expected * 2])
    assert wrong.score is None
    assert wrong.parity == pytest.approx(0.5, rel=1e-4)


def test_not_a_number_on_the_board_is_reported(board):
    x = np.full((2, 1, FEATURES), np.nan, np.float32)
    found = evaluate(board, {"x": x}, scorer=Scorer(), reference=[np.zeros((2, 1, CLASSES), np.float32)])
    assert found.parity is None
    assert "NaN" in found.why


def test_samples_that_do_not_belong_together_are_refused_before_the_board(board):
    x = np.zeros((3, 1, FEATURES), np.float32)
    for inputs, reference in (({"x": x}, [x[:2]]), ({}, []), ({"x": x[:0]}, [])):
        with pytest.raises(InputError):
            evaluate(board, inputs, scorer=Scorer(), reference=reference)


def test_the_agents_refusal_is_an_error_of_ours(board):
    x = np.ones((1, FEATURES), np.float32)
    with pytest.raises(AgentError) as caught:
        measure(board, {"x": x[:, :3]}, runs=2, warmup=0, emulated=False)
    assert caught.value.why
    with pytest.raises(AgentError):
        measure(replace(board, model=f"{board.model}.gone"), {"x": x}, runs=2, warmup=0, emulated=False)


def state(**throttling) -> protocol.State:
    fields = {"raspberry_pi_flags": None, "undervoltage": None, "events": 0, "cooling": None} | throttling
    return protocol.State(
        governor=("ondemand", "ondemand"),
        frequency_khz=(600_000, 1_500_000),
        frequency_max_khz=(1_500_000, 1_500_000),
        temperature=(protocol.Zone(zone="cpu", celsius=41.5), protocol.Zone(zone="gpu", celsius=44.0)),
        throttling=protocol.Throttling(**fields),
        load_1min=0.2,
        memory_available_kib=1000,
    )


def test_the_board_state_is_converted():
    kept = board_state(state())
    assert (kept.governor, kept.frequency_khz, kept.temperature_c) == ("ondemand", (600_000, 1_500_000), 44.0)
    assert kept.throttled is None
    assert board_state(state(raspberry_pi_flags=0x4)).throttled is True
    assert board_state(state(raspberry_pi_flags=0x50000)).throttled is False


@pytest.mark.parametrize(
    ("before", "after", "throttled"),
    [
        ({"raspberry_pi_flags": 0x0}, {"raspberry_pi_flags": 0x40000}, True),
        ({"raspberry_pi_flags": 0x40000}, {"raspberry_pi_flags": 0x40000}, False),
        ({"events": 3}, {"events": 4}, True),
        ({"events": 3}, {"events": 3}, None),
    ],
)
def test_throttling_that_came_and_went_is_seen(before, after, throttled):
    assert board_state(state(**after), since=state(**before)).throttled is throttled
