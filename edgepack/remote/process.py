"""A command on a board that can be killed and read without deadlocks.

sshd leaves commands running when their connection dies. So each is run by edgepack's agent, which puts it into a process
group of its own, ends the group when the connection goes, and prints where the command's own output begins: before
that, the login shell's start-up file may have printed something.
"""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from edgepack.errors import UnreachableError
from edgepack.remote.launch import Launch

if TYPE_CHECKING:
    from paramiko import Channel, Transport

SIGTERM_CODE = 128 + 15  # a shell's exit code for a process killed by SIGTERM
_KILL_TIMEOUT_S = 15.0
_CHANNEL_TIMEOUT_S = 30.0
_BROKEN_S = 0.5
_GRACE_S = 0.3  # grace period for a process that exits at the end of its input
# A daemon that inherited stderr keeps it open; by then the command's own output has arrived.
_STDERR_GRACE_S = 5.0
_CHUNK = 1 << 16
_PACKET = 32_768  # what every SSH server accepts in one packet (RFC 4253, 6.1)

QUIET_SHELL = (
    "make the start-up file of the board's login shell (~/.bashrc, or ENV or BASH_ENV) print nothing and not exit "
    "for commands: begin it with the line  case $- in *i*) ;; *) return;; esac"
)


@dataclass(frozen=True)
class Completed:
    """The result of a command. ``returncode`` is 128+N if it was killed by signal N, as in a shell."""

    returncode: int
    stdout: bytes
    stderr: bytes


def last_lines(text: bytes, count: int = 5) -> str:
    """The last lines of a command's output, for a message."""
    return "\n".join(text.decode(errors="replace").strip().splitlines()[-count:])


class _Pump:
    """Reads one stream of a channel in its own thread, so that the channel's window never fills up.

    The stream begins after the first line that matches ``start``. ``found`` is that match, ``before`` what came before.
    """

    def __init__(self, channel: "Channel", start: re.Pattern[bytes], *, stderr: bool) -> None:
        self._receive = channel.recv_stderr if stderr else channel.recv
        self._start = start
        self.before = bytearray()
        self.found: re.Match[bytes] | None = None
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
            except OSError:  # the channel was closed
                chunk = b""
            with self._changed:
                if self.found is None:
                    self._begin(chunk)
                else:
                    self._data += chunk
                self._ended = not chunk
                self._changed.notify_all()
            if not chunk:
                return

    def _begin(self, chunk: bytes) -> None:
        self.before += chunk
        if found := self._start.search(bytes(self.before)):
            self.found = found
            self._data += self.before[found.end() :]
            del self.before[found.start() :]

    def line(self, timeout: float | None) -> bytes:
        """Take the next line including its newline; the rest at the end; then ``b""``.

        Raises:
            TimeoutError: No complete line arrived within ``timeout`` seconds.
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
        """The remaining data at the end of the stream, or after ``timeout`` seconds."""
        self._thread.join(timeout)
        with self._changed:
            data = bytes(self._data)
            self._data.clear()
            return data

    def peek(self) -> bytes:
        """The data that was read but not taken."""
        with self._changed:
            return bytes(self._data)

    def wait_for_start(self, timeout: float) -> re.Match[bytes] | None:
        """Wait for the line after which the stream begins; None after ``timeout`` seconds or at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self.found, timeout)
            return self.found


class Stdin:
    """The standard input of a remote process. Unbuffered: ``flush`` exists for file-like use."""

    def __init__(self, channel: "Channel") -> None:
        self._channel = channel

    def write(self, data: bytes) -> int:
        """Send all of ``data``.

        Raises:
            BrokenPipeError: The process exited, or the connection was lost.
        """
        try:
            # In pieces: paramiko copies all that is left after each packet.
            for start in range(0, len(data), _PACKET):
                self._channel.sendall(data[start : start + _PACKET])
        except (OSError, EOFError) as error:
            # paramiko raises EOFError if a connection ends in the middle of a packet.
            raise BrokenPipeError(str(error)) from error
        return len(data)

    def flush(self) -> None:
        """Do nothing: every write is sent at once."""

    def close(self) -> None:
        """Send end-of-file; may be called repeatedly."""
        try:
            self._channel.shutdown_write()
        except (OSError, EOFError):
            return  # already closed by the other side


class Process:
    """A running command on a board. It is killed at the end of the ``with`` block."""

    def __init__(self, device: str, transport: "Transport", launch: Launch) -> None:
        """Start a program.

        Raises:
            UnreachableError: The connection was lost, or the server refused a channel.
        """
        self._device = device
        self._transport = transport
        self.command = launch.shown
        self._stop = launch.stop
        mark = launch.mark
        self._channel = _open(device, transport, launch.line)
        self._terminated = False
        self.stdin = Stdin(self._channel)
        self._stdout = _Pump(self._channel, re.compile(rb"%b\r?\n" % mark.encode()), stderr=False)
        self._stderr = _Pump(self._channel, re.compile(rb"%b (\d+)\r?\n" % mark.encode()), stderr=True)
        with suppress(BrokenPipeError):  # the login shell has ended: `wait` says so
            self.stdin.write(launch.header)

    @property
    def stdout(self) -> Iterator[bytes]:
        """Lines of standard output including newlines, as they arrive, until the end."""
        return iter(lambda: self._stdout.line(None), b"")

    def readline(self, timeout: float | None = None) -> bytes:
        """The next line including its newline; ``b""`` at the end.

        Raises:
            TimeoutError: No whole line came within ``timeout`` seconds; the process still runs.
        """
        return self._stdout.line(timeout)

    def read(self, timeout: float | None = None) -> bytes:
        """The rest of standard output; waits at most ``timeout`` seconds for its end."""
        return self._stdout.rest(timeout)

    @property
    def stderr(self) -> bytes:
        """Standard error so far."""
        return self._stderr.peek()

    def poll(self) -> int | None:
        """The exit code, or None while the process runs."""
        return self.wait(0) if self._channel.status_event.is_set() else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the command and return the exit code; 128+N if it was killed by signal N, as in a shell.

        Raises:
            TimeoutError: The process is still running after ``timeout`` seconds.
            UnreachableError: The connection was lost, and the exit code is unknown; or the login shell did not run
                the command.
        """
        if not self._channel.status_event.wait(timeout):
            raise TimeoutError(f"{self.command} still runs after {timeout} s")
        self._stderr.join(_STDERR_GRACE_S)
        code = self._channel.exit_status
        if code >= 0 and not self._stderr.found and not self._terminated:
            raise self._not_run(code)
        if code >= 0:
            return code
        if self._terminated:
            return SIGTERM_CODE
        if broken(self._transport):
            raise lost(self._device, self._transport, self.command)
        return code  # -1: a signal killed the agent, too, e.g. when the kernel is out of memory

    def _not_run(self, code: int) -> UnreachableError:
        self._stdout.join(_STDERR_GRACE_S)
        printed = [last_lines(bytes(pump.before), 3) for pump in (self._stderr, self._stdout)]
        said = "; ".join(text for text in printed if text)
        return UnreachableError(
            "the login shell did not run a command",
            where=self._device,
            why=f"it ended with exit code {code}{f': {said}' if said else ', and printed nothing'}",
            next=f"check that `ssh` with a command works; {QUIET_SHELL}",
        )

    def terminate(self) -> None:
        """Kill the command and all its children: SIGTERM, after 2 s SIGKILL. May be called repeatedly.

        A lost connection is not an error: the agent on the board does the same.
        """
        if self._channel.status_event.is_set() or self._terminated:
            return
        self._terminated = True
        group = self._stderr.wait_for_start(_KILL_TIMEOUT_S) if self._stop else None
        if group is None or self._stop is None or not self._transport.is_active():
            self._channel.close()
            return
        try:
            killer = _open(self._device, self._transport, self._stop(group[1].decode()))
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
            next="check that plain `ssh` with a command works; MaxSessions in its sshd_config may be too low",
        ) from error
    return channel


def broken(transport: "Transport") -> bool:
    """Whether a call failed because the connection was lost: channels may notice slightly earlier."""
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
        state="commands on the board exit within seconds",
        next="check the board's power and network, then re-run the command",
    )
