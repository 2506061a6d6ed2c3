"""Commands and files over a real sshd."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from edgepack.errors import DeployError, EdgepackError, UnreachableError
from edgepack.remote.process import Process, Stdin


def wait_until(condition, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not (reached := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(reached)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def started(process: Process) -> int:
    """The ID that a command printed as its first line."""
    return int(process.readline(30))


LOUD = ["sh", "-c", "head -c 6000000 /dev/zero; head -c 6000000 /dev/zero >&2"]
# A process that ignores SIGTERM, and a child of it: both must go.
STUBBORN = ["sh", "-c", "trap '' TERM; sleep 600 & echo $!; while :; do sleep 1; done"]


def test_arguments_arrive_unchanged(session):
    words = ["a b", "", "$HOME", "'", '"', "*", "\\n", "a\nb", ";true", "-n", "ü"]
    answer = session.run(["printf", "%s\\0", *words], check=True)
    assert answer.stdout.decode().split("\0")[:-1] == words
    assert answer.stderr == b""


def test_exit_codes_and_both_streams(session):
    answer = session.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (answer.returncode, answer.stdout, answer.stderr) == (3, b"out\n", b"err\n")


@pytest.mark.parametrize(("command", "code"), [("kill -SEGV $$", 139), ("kill -KILL $$", 137)])
def test_a_command_killed_by_a_signal_has_a_shells_exit_code(session, command, code):
    assert session.run(["sh", "-c", command]).returncode == code


def test_a_missing_command_exits_with_127(session):
    answer = session.run(["no-such-program"])
    assert answer.returncode == 127
    assert b"no-such-program" in answer.stderr


def test_check_turns_a_failure_into_an_error_with_its_output(session):
    with pytest.raises(EdgepackError, match="exit code 4") as raised:
        session.run(["sh", "-c", "echo the card is broken >&2; exit 4"], check=True)
    assert raised.value.why == "the card is broken"
    assert raised.value.where == "board"


def test_much_output_on_both_streams_does_not_block(session):
    answer = session.run(LOUD, timeout=60)
    assert (len(answer.stdout), len(answer.stderr)) == (6_000_000, 6_000_000)


def test_much_input_arrives_and_may_be_left_unread(session):
    data = os.urandom(3_000_000)
    assert session.run(["cat"], stdin=data, timeout=60).stdout == data
    assert session.run(["true"], stdin=data, timeout=60).returncode == 0


def test_without_input_a_command_reads_end_of_file(session):
    assert session.run(["cat"], timeout=30).stdout == b""


def test_a_timeout_kills_the_command_and_its_children(session, tmp_path):
    pid_file = tmp_path / "pid"
    script = f"trap '' TERM; sleep 600 & echo $! >{pid_file}; wait; wait"
    with pytest.raises(UnreachableError, match="timed out after 1 s") as raised:
        session.run(["sh", "-c", script], timeout=1)
    assert raised.value.exit_code == 4
    assert wait_until(lambda: not alive(int(pid_file.read_text())))
    assert session.run(["true"]).returncode == 0  # the session goes on


def test_a_stream_is_a_conversation(session):
    with session.stream(["sh", "-c", 'while read -r line; do echo "got $line"; done; exit 5']) as process:
        process.stdin.write(b"one\n")
        assert process.readline(30) == b"got one\n"
        assert process.poll() is None
        process.stdin.write(b"two\nthree")
        process.stdin.write(b"\n")
        process.stdin.close()
        assert list(process.stdout) == [b"got two\n", b"got three\n"]
        assert process.wait(30) == 5
    assert process.readline(1) == b""


def test_a_line_that_does_not_come_is_a_timeout_and_harms_nothing(session):
    with session.stream(["sh", "-c", "printf half; read -r _; echo ' whole'"]) as process:
        with pytest.raises(TimeoutError):
            process.readline(0.3)
        with pytest.raises(TimeoutError):
            process.wait(0.1)
        process.stdin.write(b"\n")
        assert process.readline(30) == b"half whole\n"


def test_leaving_the_block_ends_a_stubborn_process_and_its_child(session):
    with session.stream(STUBBORN) as process:
        child = started(process)
        assert alive(child)
    assert wait_until(lambda: not alive(child))
    assert process.wait(10) == 128 + signal.SIGKILL


def test_an_exception_inside_the_block_ends_the_process(session):
    children = []

    def interrupted() -> None:
        with session.stream(STUBBORN) as process:
            children.append(started(process))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (child,) = children
    assert wait_until(lambda: not alive(child))


def test_streams_and_commands_share_a_session(session):
    with session.stream(["cat"]) as first, session.stream(["cat"]) as second:
        first.stdin.write(b"1\n")
        second.stdin.write(b"2\n")
        answers = [session.run(["echo", str(n)]).stdout for n in range(3)]
        assert (first.readline(30), second.readline(30)) == (b"1\n", b"2\n")
    assert answers == [b"0\n", b"1\n", b"2\n"]


def test_a_killed_server_is_a_lost_connection_and_the_command_ends_itself(own_sshd, own_session):
    with own_session.stream(STUBBORN) as process:
        child = started(process)
        own_sshd.kill_sessions()
        with pytest.raises(UnreachableError, match="connection was lost") as raised:
            process.wait(30)
        assert process.readline(5) == b""
        with pytest.raises(BrokenPipeError):
            process.stdin.write(b"x" * 100_000)
    assert raised.value.exit_code == 4
    assert raised.value.next
    assert wait_until(lambda: not alive(child), 30)
    with pytest.raises(UnreachableError):
        own_session.run(["true"])
    with pytest.raises(UnreachableError):
        own_session.put_bytes(b"x", "/tmp/edgepack-never-written")


def test_closing_the_session_ends_what_runs(open_session):
    session = open_session()
    child = started(session.stream(STUBBORN))
    session.close()
    assert wait_until(lambda: not alive(child), 30)


@pytest.mark.parametrize("size", [0, 1, 32_768, 5_000_001])
def test_files_arrive_whole_with_their_mode(session, tmp_path, size):
    data = os.urandom(size)
    source = tmp_path / "source"
    source.write_bytes(data)
    sent = []
    session.put(source, str(tmp_path / "dest"), mode=0o755, progress=sent.append)
    assert (tmp_path / "dest").read_bytes() == data
    assert (tmp_path / "dest").stat().st_mode & 0o777 == 0o755
    assert sum(sent) == size
    session.get(str(tmp_path / "dest"), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data == session.read(str(tmp_path / "dest"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "dest", "source"]


def test_a_file_is_replaced_in_one_step(session, tmp_path):
    dest = tmp_path / "dest"
    dest.write_bytes(b"old")
    old = dest.open("rb")
    session.put_bytes(b"new", str(dest))
    assert dest.read_bytes() == b"new"
    assert old.read() == b"old"  # whoever runs the old file keeps it
    old.close()


def test_a_missing_file_reads_as_none_and_cannot_be_fetched(session, tmp_path):
    assert session.read(str(tmp_path / "none")) is None
    with pytest.raises(EdgepackError, match="cannot read") as raised:
        session.get(str(tmp_path / "none"), tmp_path / "dest")
    assert raised.value.where == "board"
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(session, tmp_path):
    with pytest.raises(DeployError) as raised:
        session.put_bytes(b"x", str(tmp_path / "no/where"))
    assert raised.value.why == "the folder does not exist"
    assert raised.value.exit_code == 5


def test_an_interrupted_transfer_leaves_nothing_and_the_old_file(session, tmp_path):
    dest = tmp_path / "folder"
    dest.mkdir()
    (dest / "file").write_bytes(b"old")
    (tmp_path / "source").write_bytes(bytes(1_000_000))

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.put(tmp_path / "source", str(dest / "file"), progress=interrupt)
    assert [path.name for path in dest.iterdir()] == ["file"]
    assert (dest / "file").read_bytes() == b"old"


def test_a_connection_killed_during_a_transfer_leaves_the_old_file(own_sshd, own_session, tmp_path):
    (tmp_path / "source").write_bytes(bytes(20_000_000))
    (tmp_path / "dest").write_bytes(b"old")
    sent = []

    def kill(size: int) -> None:
        sent.append(size)
        if len(sent) == 20:
            own_sshd.kill_sessions()

    with pytest.raises(UnreachableError, match="connection was lost"):
        own_session.put(tmp_path / "source", str(tmp_path / "dest"), progress=kill)
    assert (tmp_path / "dest").read_bytes() == b"old"


def test_a_full_disk_is_called_by_its_name(session, small_disk):
    (small_disk / "file").write_bytes(b"old")
    with pytest.raises(DeployError, match="cannot write") as raised:
        session.put_bytes(os.urandom(8_000_000), str(small_disk / "file"))
    assert "disk is full" in (raised.value.why or "")
    assert "8.0 MB needed" in (raised.value.why or "")
    assert [path.name for path in small_disk.iterdir()] == ["file"]
    assert (small_disk / "file").read_bytes() == b"old"


def test_threads_may_share_a_session(session, tmp_path):
    failed = []

    def work(number: int) -> None:
        data = bytes([number]) * 300_000
        session.put_bytes(data, str(tmp_path / str(number)))
        if session.read(str(tmp_path / str(number))) != data:
            failed.append(number)
        if session.run(["echo", str(number)]).stdout != f"{number}\n".encode():
            failed.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize("error", [OSError("Socket is closed"), EOFError()])
def test_writing_to_an_exited_process_is_a_broken_pipe(error):
    class Gone:
        def sendall(self, _data):
            raise error

    with pytest.raises(BrokenPipeError):
        Stdin(Gone()).write(b"data")
