"""The protocol's functions over a real SSH session, and their errors."""

import re
from pathlib import Path

import numpy as np
import pytest
from agent_kit import mlp

from edgepack.agent import protocol
from edgepack.agent.build import SOURCES
from edgepack.agent.protocol import BoardModel
from edgepack.errors import AgentError


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A session with a virtual board that is this machine behind a real sshd."""
    from edgepack.remote import virtual
    from edgepack.remote.session import connect

    with (
        virtual.up("host", "agent-protocol", owned=True) as board,
        connect(board.name, board.device) as opened,
    ):
        yield opened


@pytest.fixture
def xs():
    return np.random.default_rng(5).standard_normal((3, 1, 64)).astype(np.float32)


def scripted(tmp_path, text):
    """A program in place of the agent that prints ``text``."""
    program = tmp_path / "agent"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return str(program)


def test_info(bundle, session):
    told = protocol.info(session, str(bundle.agent), work_dir="/")
    assert (told.protocol, told.arch, told.disk.path) == (protocol.PROTOCOL, "x86_64", "/")


def test_run_brings_the_outputs_home_and_leaves_nothing_on_the_board(bundle, session, xs, tmp_path):
    on = BoardModel(session, str(bundle.agent), str(bundle.library("mlp")), scratch=str(tmp_path))
    (one,) = protocol.run(on, {"x": xs[0]})
    (all_of_them,) = protocol.run(on, {"x": xs}, each=True)
    np.testing.assert_allclose(all_of_them, mlp()[1](xs), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(one, all_of_them[0])
    assert list(tmp_path.iterdir()) == []


def test_arrays_that_are_not_c_contiguous_are_sent_right(bundle, session, tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(3, 2) + 1
    inputs = {
        name: values.T.astype(name)
        for name in ("float32", "float16", "int8", "uint8", "int32", "int64", "bool")
    }
    on = BoardModel(session, str(bundle.agent), str(bundle.library("dtypes")), scratch=str(tmp_path))
    outputs = protocol.run(on, inputs)
    np.testing.assert_allclose(outputs[0], np.log(values.T), rtol=1e-5)
    assert [out.dtype.name for out in outputs] == list(inputs)


def test_bench(bundle, session, xs, tmp_path):
    model = str(bundle.library("mlp"))
    on = BoardModel(session, str(bundle.agent), model, cores=(0,), scratch=str(tmp_path))
    raw = protocol.bench(on, {"x": xs[0]}, warmup=1, runs=9)
    assert (len(raw.samples_ns), raw.warmup, raw.threads) == (9, 1, 1)
    assert raw.outputs[0].shape == (1, 10)
    assert raw.peak_rss_kib > 0


def test_a_failure_of_the_model_is_an_agent_error_in_its_words(bundle, session, xs, tmp_path):
    on = BoardModel(session, str(bundle.agent), str(bundle.library("mlp")), scratch=str(tmp_path))
    with pytest.raises(AgentError) as caught:
        protocol.run(on, {"x": xs})
    assert "expect Tensor with ndim 2 but get 3" in caught.value.why
    assert caught.value.where == "agent-protocol"
    assert caught.value.exit_code == 4
    assert list(tmp_path.iterdir()) == []


def test_a_killed_agent_is_named_as_killed(session, tmp_path):
    with pytest.raises(AgentError, match="by signal 9 without a message"):
        protocol.info(session, scripted(tmp_path, "kill -9 $$"))


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ('{"ok":true,"protocol":99}', "uses protocol 99, this edgepack uses 1"),
        ('{"ok":true,"protocol":1}', "wrote an invalid line"),
        ("hello", "wrote an invalid line"),
        ("one\ntwo", "wrote 2 lines, not 1"),
    ],
)
def test_an_agent_with_another_protocol_is_rejected(session, tmp_path, says, message):
    with pytest.raises(AgentError, match=message):
        protocol.info(session, scripted(tmp_path, f"cat <<'END'\n{says}\nEND"))


def test_throttled_is_about_now():
    def state(**told):
        throttling = protocol.Throttling(events=0, **told)
        return protocol.State(
            governor=(),
            frequency_khz=(),
            frequency_max_khz=(),
            temperature=(),
            throttling=throttling,
            load_1min=None,
            memory_available_kib=0,
        )

    assert state().throttled is None
    assert state(raspberry_pi_flags=0x50000).throttled is False  # it has happened since boot
    assert state(raspberry_pi_flags=0x50005).throttled is True
    assert state(cooling=("cpufreq-cpu0",)).throttled is True
    assert state(cooling=()).throttled is False


def test_both_sides_state_the_same_version_and_the_document_too():
    header = (SOURCES / "agent.h").read_text()
    assert f"PROTOCOL_VERSION = {protocol.PROTOCOL} " in header
    document = (Path(__file__).parents[2] / "docs/agent-protocol.md").read_text()
    assert f"version {protocol.PROTOCOL}" in document


def test_every_exit_code_stands_in_the_document():
    header = (SOURCES / "fail.h").read_text()
    document = (Path(__file__).parents[2] / "docs/agent-protocol.md").read_text()
    for name, code in re.findall(r"STATUS_(\w+) = (\d)", header):
        assert f"| {code} | `{name.lower()}` |" in document
