"""One command on a board: started so that it can be killed, read without deadlocks.

sshd leaves commands running when their connection dies. So each runs under a small POSIX shell
wrapper, which prints the id of its process group (sshd makes every command a group of its own), and
ends the group when sshd's process, its parent, is gone.
"""

import re
import shlex
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Self

from edgepack.errors import UnreachableError

if TYPE_CHECKING:
    from paramiko import Channel, Transport

SIGTERM_CODE = 128 + 15  # what a shell calls the exit code of a process ended by SIGTERM
_KILL_TIMEOUT_S = 15.0
_CHANNEL_TIMEOUT_S = 30.0
_BROKEN_S = 0.5
_GRACE_S = 0.3  # for a process that ends by itself when its input does
# A daemon that inherited stderr keeps it open for ever; what the command itself said is there by then.
_STDERR_GRACE_S = 5.0
_CHUNK = 1 << 16

# The first line on stderr is ours: the process group. `kill -0` of the parent at the start keeps the
# watch away where the parent cannot be seen (another user's, another pid namespace). The watcher is in
# the group it ends, so it catches TERM: its own must not stop it before KILL, ours must. The main shell
# catches it to stay for the command's exit code. Signals interrupt `wait`, so it is asked again.
_WRAPPER = """\
echo "edgepack-group $$" >&2
exec 3<&0
trap : TERM
"$@" <&3 3<&- &
command=$!
exec 3<&- </dev/null
parent=$PPID
(
  exec >/dev/null 2>&1
  kill -0 "$parent" || exit
  told=
  nap=
  trap 'told=yes; kill "$nap"' TERM
  while [ -z "$told" ] && kill -0 "$parent"; do
    sleep 5 &
    nap=$!
    wait "$nap"
  done
  [ -z "$told" ] || { wait; exit; }
  kill -TERM -$$ || kill -TERM "$command"
  sleep 2
  kill -KILL -$$ || kill -KILL "$command"
) &
watcher=$!
wait "$command"
status=$?
while kill -0 "$command" 2>/dev/null; do
  wait "$command"
  status=$?
done
kill -KILL "$watcher" 2>/dev/null
exit "$status"
"""
_GROUP = re.compile(rb"edgepack-group (\d+)\n")
_KILL = """\
kill -TERM -"$1" 2>/dev/null || exit 0
i=0
while kill -0 -"$1" 2>/dev/null && [ $i -lt 20 ]; do sleep 0.1; i=$((i + 1)); done
kill -KILL -"$1" 2>/dev/null
exit 0
"""


def shell_command(argv: Sequence[str]) -> str:
    """The command line for sshd, which hands it to the user's login shell, whatever that is."""
    return f"exec /bin/sh -c {shlex.quote(_WRAPPER)} edgepack {shlex.join(argv)}"


class _Pump:
    """Reads one stream of a channel in a thread of its own, so that no window ever fills up."""

    def __init__(self, channel: "Channel", *, stderr: bool) -> None:
        self._receive = channel.recv_stderr if stderr else channel.recv
        self._data = bytearray()
        self._ended = False
        self._changed = threading.Condition()
        name = "edgepack-stderr" if stderr else "edgepack-stdout"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                chunk = self._receive(_CHUNK)
            except OSError:  # the channel was closed under us
                chunk = b""
            with self._changed:
                self._data += chunk
                self._ended = not chunk
                self._changed.notify_all()
            if not chunk:
                return

    def line(self, timeout: float | None) -> bytes:
        """Take the next line, newline included; what is left at the end; ``b""`` after it.

        Raises:
            TimeoutError: No whole line came within ``timeout`` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            searched = 0
            while (found := self._data.find(b"\n", searched)) < 0 and not self._ended:
                searched = len(self._data)
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError
                self._changed.wait(left)
            end = found + 1 if found >= 0 else len(self._data)
            line = bytes(self._data[:end])
            del self._data[:end]
            return line

    def join(self, timeout: float | None) -> None:
        """Wait for the end of the stream."""
        self._thread.join(timeout)

    def rest(self, timeout: float | None) -> bytes:
        """Everything that is left once the stream has ended, or after ``timeout`` seconds."""
        self._thread.join(timeout)
        with self._changed:
            data = bytes(self._data)
            self._data.clear()
            return data

    def peek(self) -> bytes:
        """Everything read so far and not taken."""
        with self._changed:
            return bytes(self._data)

    def wait_for(self, pattern: re.Pattern[bytes], timeout: float) -> re.Match[bytes] | None:
        """The first match in what is not taken, waiting for it; None after ``timeout`` or at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or pattern.search(self._data), timeout)
            return pattern.search(bytes(self._data))


class Stdin:
    """The standard input of a remote process. Unbuffered: ``flush`` is there for file-like use."""

    def __init__(self, channel: "Channel") -> None:
        self._channel = channel

    def write(self, data: bytes) -> int:
        """Send all of ``data``.

        Raises:
            BrokenPipeError: The process is gone, or its connection.
        """
        try:
            self._channel.sendall(data)
        except (OSError, EOFError) as error:
            # EOFError is paramiko's word for a connection that ended in mid-packet.
            raise BrokenPipeError(str(error)) from error
        return len(data)

    def flush(self) -> None:
        """Do nothing: every write is sent at once."""

    def close(self) -> None:
        """Send end-of-file; more than once is fine."""
        try:
            self._channel.shutdown_write()
        except (OSError, EOFError):
            return  # it is closed already, from the other side


class Process:
    """A running command on a board. Leaving the ``with`` block ends it."""

    def __init__(self, device: str, transport: "Transport", argv: Sequence[str]) -> None:
        """Start ``argv``.

        Raises:
            UnreachableError: The connection is lost, or the server opens no more channels.
        """
        self._device = device
        self._transport = transport
        self.command = shlex.join(argv)
        self._channel = _open(device, transport, shell_command(argv))
        self._terminated = False
        self.stdin = Stdin(self._channel)
        self._stdout = _Pump(self._channel, stderr=False)
        self._stderr = _Pump(self._channel, stderr=True)

    @property
    def stdout(self) -> Iterator[bytes]:
        """Lines of standard output as they come, newline included, to the end."""
        return iter(lambda: self._stdout.line(None), b"")

    def readline(self, timeout: float | None = None) -> bytes:
        """The next line, newline included; ``b""`` at the end.

        Raises:
            TimeoutError: No whole line came within ``timeout`` seconds; the process still runs.
        """
        return self._stdout.line(timeout)

    def read(self, timeout: float | None = None) -> bytes:
        """What is left of standard output, waiting for its end, ``timeout`` seconds at most."""
        return self._stdout.rest(timeout)

    @property
    def stderr(self) -> bytes:
        """Standard error so far."""
        text = self._stderr.peek()
        group = _GROUP.search(text)
        return text[group.end() :] if group else text

    def poll(self) -> int | None:
        """The exit code, or None while the process runs."""
        return self.wait(0) if self._channel.status_event.is_set() else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code; 128+N where signal N ended the command, as in a shell.

        Raises:
            TimeoutError: The process still runs after ``timeout`` seconds.
            UnreachableError: The connection was lost; nobody knows how the process ended.
        """
        if not self._channel.status_event.wait(timeout):
            raise TimeoutError(f"{self.command} still runs after {timeout} s")
        self._stderr.join(_STDERR_GRACE_S)
        code = self._channel.exit_status
        if code >= 0:
            return code
        if self._terminated:
            return SIGTERM_CODE
        if broken(self._transport):
            raise lost(self._device, self._transport, self.command)
        return code  # -1: a signal ended the wrapper too, e.g. the kernel out of memory

    def terminate(self) -> None:
        """End the command and everything it started: SIGTERM, after 2 s SIGKILL. Twice is fine.

        A lost connection is not an error here: the wrapper on the board does the same by itself.
        """
        if self._channel.status_event.is_set() or self._terminated:
            return
        self._terminated = True
        group = self._stderr.wait_for(_GROUP, _KILL_TIMEOUT_S)
        if group is None or not self._transport.is_active():
            self._channel.close()
            return
        script = shlex.join(["/bin/sh", "-c", _KILL, "edgepack", group[1].decode()])
        try:
            killer = _open(self._device, self._transport, f"exec {script}")
        except UnreachableError:
            return
        killer.status_event.wait(_KILL_TIMEOUT_S)
        killer.close()
        self._channel.status_event.wait(_KILL_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stdin.close()
        self._channel.status_event.wait(_GRACE_S)
        self.terminate()
        self._channel.close()


def _open(device: str, transport: "Transport", command: str) -> "Channel":
    import paramiko

    try:
        channel = transport.open_session(timeout=_CHANNEL_TIMEOUT_S)
        channel.exec_command(command)
    except (paramiko.SSHException, EOFError, OSError) as error:
        if broken(transport):
            raise lost(device, transport, "starting a command") from error
        raise UnreachableError(
            "the SSH server did not start a command",
            where=device,
            why=str(error) or "it closed the channel",
            next="does a plain `ssh` with a command work? MaxSessions in its sshd_config may be too low",
        ) from error
    return channel


def broken(transport: "Transport") -> bool:
    """Whether a call failed because the connection is gone: channels may hear of it a moment earlier."""
    deadline = time.monotonic() + _BROKEN_S
    while transport.is_active() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not transport.is_active()


def lost(device: str, transport: "Transport", doing: str) -> UnreachableError:
    """The error for a connection that broke while ``doing`` something."""
    error = transport.get_exception()
    return UnreachableError(
        "the connection was lost",
        where=device,
        why=f"during: {doing[:200]}{f' ({error})' if str(error or '') else ''}",
        state="what ran on the board ends itself within seconds",
        next="check the board's power and network, then run the same command again",
    )
