"""An agent for a GPU on a board without a release: sent once, also by concurrent runs, with cleanup of old ones."""

import os
import threading
import time
from pathlib import Path

import pytest

from edgepack.config.target import load_target
from edgepack.errors import DeployError
from edgepack.remote import tools
from edgepack.remote.lock import lock

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
    target = load_target("jetson-orin")
    return lambda session: Path(tools.ensure_tools(session, target, str(work_dir)))


def test_a_board_without_a_gpu_gets_the_agent_alone(session, work_dir):
    agent = Path(tools.ensure_tools(session, load_target("x86-64-v3"), str(work_dir)))
    assert [path.name for path in agent.parents[1].rglob("*") if path.is_file()] == ["edgepack-agent"]


def test_tools_are_sent_once(session, ensure, work_dir):
    agent = ensure(session)
    assert agent.read_bytes() == b"agent"
    assert agent.stat().st_mode & 0o111
    assert (agent.parents[1] / "lib/libtvm_runtime.so").is_file()
    before = agent.stat().st_mtime_ns
    assert ensure(session) == agent
    assert agent.stat().st_mtime_ns == before
    assert [p.name for p in (work_dir / ".tools").iterdir()] == [agent.parents[1].name]


def test_for_a_cpu_the_boards_own_agent_does(session, work_dir):
    target = load_target("x86-64-v3")
    assert tools.ensure_tools(session, target, str(work_dir)) == session.agent()
    assert not work_dir.exists()


def damage_contents(agent):
    agent.write_bytes(b"other")


def damage_mode(agent):
    agent.chmod(0o644)


def damage_kind(agent):
    agent.unlink()
    os.mkfifo(agent)


@pytest.mark.parametrize("damage", [damage_contents, damage_mode, damage_kind])
def test_damaged_tools_are_not_used_and_not_touched(session, ensure, damage):
    agent = ensure(session)
    damage(agent)
    mode = agent.lstat().st_mode
    again = ensure(session)
    assert again != agent
    assert again.read_bytes() == b"agent"
    assert agent.lstat().st_mode == mode
    assert ensure(session) == again


def test_only_what_edgepack_made_goes_and_what_is_in_use_stays(session, open_session, ensure, work_dir):
    """Sets unused for a day, and those that a killed run began to send."""
    mine = ensure(session).parents[1]
    tools = mine.parent
    yesterday = time.time() - 2 * DAY_S
    forgotten, fresh, sending, used = "0" * 32, "1" * 32, ".new-" + "2" * 16, ".new-" + "3" * 16
    for name in (forgotten, fresh, f"{sending}/set", f"{used}/set"):
        for path in ("bin/edgepack-agent", "lib/libtvm_runtime.so"):
            (tools / name / path).parent.mkdir(parents=True)
            (tools / name / path).write_text("x")
    (tools / sending / "set/lib/.libtvm_ffi.so.0123abcd.part").write_text("x")
    (tools / sending / ".lock").touch()
    foreign = {"mine": "keep", "old/file": "keep", ".new-old/x": "keep", "4" * 32 + "/bin/notes": "keep"}
    for path, text in foreign.items():
        (tools / path).parent.mkdir(parents=True, exist_ok=True)
        (tools / path).write_text(text)
    for path in tools.iterdir():
        if path.name != fresh:
            os.utime(path, (yesterday, yesterday))
    with lock(open_session(), str(tools / used)):
        assert ensure(session).parents[1] == mine
    left = {path.name for path in tools.iterdir()}
    assert left == {mine.name, fresh, used, "mine", "old", ".new-old", "4" * 32}
    assert all((tools / path).read_text() == text for path, text in foreign.items())


def test_a_link_in_their_place_is_not_followed(session, ensure, work_dir, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    work_dir.mkdir()
    (work_dir / ".tools").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeployError, match="not a folder"):
        ensure(session)
    assert list((tmp_path / "elsewhere").iterdir()) == []


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
