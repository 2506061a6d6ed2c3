"""Tuning over a real sshd, which is killed once during the run."""

import os
import shutil

import pytest
from tune_kit import target

from edgepack.remote.session import connect
from edgepack.remote.tools import ensure_tools
from edgepack.remote.virtual import up
from edgepack.tuning import BoardRunner, ConnectionLost, Reconnected, RecordStore, UntunedMeasured, tune
from edgepack.tuning import runner as runner_module


@pytest.fixture
def board():
    if not shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin"):
        message = "needs sshd: apt-get install openssh-server"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    with up("host", owned=True) as board:
        yield board


def test_tuning_goes_on_after_the_connection_was_cut(board, net, tmp_path, monkeypatch):
    monkeypatch.setattr(runner_module, "_BACKOFF_S", (0.1,))
    sessions, events = [], []

    def open_session():
        sessions.append(connect(board.name, board.device))
        return sessions[-1], ensure_tools(sessions[-1], target(), board.device.work_dir)

    def listen(event):
        events.append(event)
        if isinstance(event, UntunedMeasured) and event.done == event.kernels:
            sessions[0].close()

    runner = BoardRunner(open_session, target().tune, shares_host=True)
    result = tune(net, target(), runner, trials=8, store=RecordStore(tmp_path), progress=listen)
    assert (result.trials, result.failed) == (8, 0)
    assert all(kernel.best_ms for kernel in result.kernels)
    assert [type(e) for e in events if isinstance(e, (ConnectionLost, Reconnected))] == [
        ConnectionLost,
        Reconnected,
    ]
    assert len(sessions) == 2
    assert not any(session.alive for session in sessions)
