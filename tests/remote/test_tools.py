"""The agent on a board without a release: sent once, also by concurrent runs, with cleanup of old ones."""

import os
import threading
import time
from pathlib import Path

import pytest

from edgepack.config.target import load_target
from edgepack.remote import tools

DAY_S = 86_400


@pytest.fixture
def work_dir(tmp_path, monkeypatch):
    for name in ("agent", "libtvm_runtime.so"):
        (tmp_path / name).write_bytes(name.encode())
    monkeypatch.setattr(tools, "build_agent", lambda *_: tmp_path / "agent")
    libraries = {"libtvm_runtime.so": tmp_path / "libtvm_runtime.so"}
    monkeypatch.setattr(tools, "runtime_libs", lambda *_, **__: libraries)
    return tmp_path / "board"


@pytest.fixture
def ensure(work_dir):
    target = load_target("x86-64-v3")
    return lambda session: Path(tools.ensure_tools(session, target, str(work_dir)))


def test_tools_are_sent_once(session, ensure, work_dir):
    agent = ensure(session)
    assert agent.read_bytes() == b"agent"
    assert agent.stat().st_mode & 0o111
    assert (agent.parents[1] / "lib/libtvm_runtime.so").is_file()
    agent.write_bytes(b"as it was")
    assert ensure(session) == agent
    assert agent.read_bytes() == b"as it was"
    assert [p.name for p in (work_dir / ".tools").iterdir()] == [agent.parents[1].name]


def test_those_of_another_run_stay_and_forgotten_ones_go(session, ensure, work_dir):
    for name in ("other", ".new-other", "old", ".new-old"):
        (work_dir / ".tools" / name).mkdir(parents=True)
    yesterday = time.time() - 2 * DAY_S
    for name in ("old", ".new-old"):
        os.utime(work_dir / ".tools" / name, (yesterday, yesterday))
    mine = ensure(session).parents[1]
    os.utime(mine, (yesterday, yesterday))
    assert ensure(session).is_file()
    assert {p.name for p in mine.parent.iterdir()} == {mine.name, "other", ".new-other"}


def test_two_runs_may_send_the_tools_at_once(open_session, ensure, work_dir):
    barrier = threading.Barrier(4)
    agents = []

    def run(session):
        barrier.wait()
        agents.append(ensure(session))

    threads = [threading.Thread(target=run, args=(open_session(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(agents) == 4
    assert len(set(agents)) == 1
    assert agents[0].read_bytes() == b"agent"
    assert [p.name for p in (work_dir / ".tools").iterdir()] == [agents[0].parents[1].name]
