"""Devices of a run: looked up by name, identified without a connection; sessions are closed and boards stopped."""

from dataclasses import dataclass

import pytest

from edgepack.config.device import Device, load_devices
from edgepack.config.target import load_target
from edgepack.errors import DeployError, UsageError
from edgepack.pipeline.stages.tune import tuning_runner
from edgepack.remote import session as sessions
from edgepack.remote import tools, virtual
from edgepack.remote.boards import Boards, find_device

DEVICES = """\
edgepack: 1
devices:
  pi:
    host: 10.0.0.7
    port: 2222
    target: rpi4
  sim:
    host: localhost
    target: rpi4
    emulated: true
"""


BOARD = Device(host="127.0.0.1", port=4022, target="rpi4", emulated=True)


@dataclass
class Session:
    alive: bool = True
    closed: int = 0

    def close(self):
        self.closed += 1
        self.alive = False


@dataclass(frozen=True)
class Board:
    name: str
    kind: str
    owned: bool
    device: Device = BOARD


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch):
    for kind in ("CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    folder = tmp_path / "config/edgepack"
    folder.mkdir(parents=True)
    (folder / "devices.yaml").write_text(DEVICES)


@pytest.fixture
def up(monkeypatch):
    """Virtual boards that are up, and which were started and stopped."""
    boards, log = [], []

    def start(kind, name=None, *, owned=False):
        board = Board(name or f"{kind}-9", kind, owned)
        boards.append(board)
        log.append(("up", board.name))
        return board

    monkeypatch.setattr(virtual, "running", lambda: list(boards))
    monkeypatch.setattr(virtual, "up", start)
    monkeypatch.setattr(virtual, "down", lambda name: log.append(("down", name)))
    return boards, log


@pytest.fixture
def opened(monkeypatch):
    made = []

    def connect(name, device):
        made.append(Session())
        return made[-1]

    monkeypatch.setattr(sessions, "connect", connect)
    return made


def test_places_say_where_without_reaching_it(up):
    with Boards() as boards:
        pi, sim, rpi4 = (boards.identify(name) for name in ("pi", "sim", "virtual:rpi4"))
        assert boards.identify("virtual:host").emulated is False
    assert (pi.host, pi.port, pi.emulated, pi.virtual) == ("10.0.0.7", 2222, False, False)
    assert (sim.port, sim.emulated) == (None, True)
    assert (rpi4.emulated, rpi4.virtual) == (True, True)
    assert up[1] == []


def test_an_unknown_device_is_reported_with_a_suggestion(up):
    with pytest.raises(UsageError) as caught:
        find_device("pie", load_devices())
    assert "did you mean pi?" in caught.value.render()
    with pytest.raises(UsageError) as caught:
        find_device("zzz", load_devices())
    assert "devices list" in caught.value.render()


def test_a_running_board_is_a_device_by_its_name(up):
    up[0].append(Board("desk", "rpi4", owned=False))
    assert find_device("desk", load_devices()).port == 4022
    with Boards() as boards:
        assert boards.identify("desk").virtual


def test_a_board_is_started_once_and_stopped(up):
    with Boards() as boards:
        assert boards.device("virtual:rpi4") is boards.device("virtual:rpi4")
    assert up[1] == [("up", "rpi4-9"), ("down", "rpi4-9")]


def test_a_board_that_stays_up_is_used_and_left_alone(up):
    up[0].extend([Board("theirs", "rpi4", owned=True), Board("kept", "rpi4", owned=False)])
    with Boards() as boards:
        boards.device("virtual:rpi4")
    assert up[1] == []


def test_boards_are_stopped_when_the_run_fails(up):
    with pytest.raises(RuntimeError), Boards() as boards:
        boards.device("virtual:host")
        raise RuntimeError
    assert up[1][-1] == ("down", "host-9")


def test_one_session_a_device_opened_again_when_it_was_lost_and_closed_before_its_board_goes(up, opened):
    with Boards() as boards:
        first = boards.session("virtual:rpi4")
        assert boards.session("virtual:rpi4") is first
        first.alive = False
        second = boards.session("virtual:rpi4")
        assert second is not first
        assert up[1] == [("up", "rpi4-9")]
    assert [session.closed for session in opened] == [1, 1]


def test_a_session_that_got_no_tools_is_closed(opened, monkeypatch):
    def refuse(*_):
        raise DeployError("no space left")

    monkeypatch.setattr(tools, "ensure_tools", refuse)
    with Boards() as boards:
        runner = tuning_runner(boards, "pi")(load_target("rpi4"))
        with pytest.raises(DeployError), runner:
            runner.start(lambda _: None, lambda _: None)
    assert [session.closed for session in opened] == [1]
