"""Boards whose login shell prints something, or ends, before it runs a command."""

import os
import pwd
from pathlib import Path

import pytest
from loopback import Sshd, lacking

from edgepack.errors import DeployError, UnreachableError
from edgepack.remote import boardagent
from edgepack.remote.session import connect


@pytest.fixture(scope="module")
def board(tmp_path_factory, keys):
    """A server without SFTP, whose user's login shell reads ~/.bashrc."""
    if Path(pwd.getpwuid(os.getuid()).pw_shell).name != "bash":
        lacking("the login shell is not bash")
    server = Sshd(tmp_path_factory.mktemp("noisy"), keys / "user", keys / "host").start()
    yield server
    server.stop()


def write_start_up(board: Sshd, text: str) -> None:
    (board.folder / ".bashrc").write_text(f"{text}\n")


NOISE = {
    "a line": "echo Welcome",
    "a line of errors": "echo Welcome >&2",
    "no end of line": "printf Welcome",
    "both": "echo Welcome; date >&2; echo; printf '%s' '>> '",
    "much": "head -c 300000 /dev/zero | tr '\\0' '\\n'",
    "bytes": "printf '\\0\\0\\377\\0\\2'",
    "what looks like an answer": "echo edgepack-0123456789abcdef 12",
    "its command line": "set -xv",
    "carriage returns": "printf 'Welcome\\r\\n'",
}


@pytest.mark.parametrize("kind", NOISE)
def test_what_the_start_up_file_prints_is_not_taken_for_output(board, home, tmp_path, kind):
    write_start_up(board, NOISE[kind])
    data = os.urandom(100_000)
    with connect("pi", board.device()) as session:
        answer = session.run(["sh", "-c", "cat; echo err >&2; exit 3"], stdin=b"in")
        assert (answer.returncode, answer.stdout, answer.stderr) == (3, b"in", b"err\n")
        with session.stream(["cat"]) as process:
            process.stdin.write(b"one\n")
            assert process.readline(30) == b"one\n"
        session.put_bytes(data, str(tmp_path / "sent"))
        assert session.read(str(tmp_path / "sent")) == data


@pytest.mark.parametrize("text", ["exit 0", "echo Account closed; exit 3", "exec true"])
def test_a_start_up_file_that_ends_the_shell_is_named(board, home, text):
    write_start_up(board, text)
    with connect("pi", board.device()) as session:
        with pytest.raises(UnreachableError, match="did not run a command") as raised:
            session.run(["echo", "hi"])
        assert "bashrc" in (raised.value.next or "")
        assert ("Account closed" in (raised.value.why or "")) == ("closed" in text)


def test_a_start_up_file_that_takes_the_input_is_named(board, home):
    write_start_up(board, "echo Welcome; cat >/dev/null")
    with connect("pi", board.device(work_dir=str(board.folder / "other"))) as session:
        with pytest.raises(DeployError, match="does not arrive") as raised:
            session.read("/etc/hostname")
        assert "bashrc" in (raised.value.next or "")
    with connect("pi", board.device()) as session:  # which has the agent
        with pytest.raises(UnreachableError, match="did not run a command") as lost:
            session.run(["true"])
        assert "Welcome" in (lost.value.why or "")
        assert "start-up file" in (lost.value.why or "")


def test_a_start_up_file_that_does_not_end_is_named(board, home, monkeypatch):
    monkeypatch.setattr(boardagent, "_TIMEOUT_S", 1.0)
    write_start_up(board, "sleep 600")
    with connect("pi", board.device()) as session:
        with pytest.raises(UnreachableError, match="did not run a command within 1 s") as raised:
            session.run(["true"])
        assert "bashrc" in (raised.value.next or "")
