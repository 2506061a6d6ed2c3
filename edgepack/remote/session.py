"""A session with a board: run commands and transfer files."""

import contextlib
import io
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from edgepack.base.files import write_atomic
from edgepack.config.device import Device
from edgepack.errors import EdgepackError, TimedOutError
from edgepack.remote.boardagent import place_agent
from edgepack.remote.connection import Connection, open_connection, trust
from edgepack.remote.launch import Launch, launched, plain
from edgepack.remote.process import Completed, Process, last_lines
from edgepack.remote.transfer import ChunkSent, fetch, send

__all__ = ["ChunkSent", "Completed", "Process", "SSHSession", "Session", "connect", "trust"]


class Session(Protocol):
    """The interface of a connection to a board."""

    name: str

    @property
    def alive(self) -> bool:
        """Whether the connection is alive, as far as is known."""
        ...

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float | None = None, check: bool = False
    ) -> Completed:
        """Run a command and wait for it."""
        ...

    def stream(self, argv: Sequence[str]) -> Process:
        """Start a command for interactive use."""
        ...

    def agent(self) -> str:
        """The path of this edgepack's static agent on the board, which is sent if it is not there."""
        ...

    def put(self, source: Path, dest: str, *, mode: int = 0o644, progress: ChunkSent | None = None) -> None:
        """Send a file."""
        ...

    def put_bytes(self, data: bytes, dest: str, mode: int = 0o644) -> None:
        """Send bytes as a file."""
        ...

    def get(self, source: str, dest: Path) -> None:
        """Fetch a file."""
        ...

    def read(self, source: str) -> bytes | None:
        """The contents of a small file; None if it does not exist."""
        ...

    def close(self) -> None:
        """Close the session."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def connect(name: str, device: Device) -> "SSHSession":
    """Open a session with a device of ``devices.yaml``.

    ``~/.ssh/config``, ssh-agent and known_hosts are used as ssh uses them: docs/add-a-device.md.

    Raises:
        TrustError: The host key is unknown, changed or revoked.
        UnreachableError: The device does not respond or rejects the login.
        UsageError: The SSH configuration cannot be used.
    """
    return SSHSession(name, open_connection(name, device), device.work_dir)


class SSHSession:
    """A ``Session`` over one SSH connection. Relative paths start in the login directory."""

    def __init__(self, name: str, connection: Connection, work_dir: str) -> None:
        """``work_dir`` is the device's folder on the board, where the agent is kept."""
        self.name = name
        self._work_dir = work_dir
        self._agent: str | None = None
        self._placing = threading.Lock()
        self._connection = connection

    @property
    def alive(self) -> bool:
        """Whether the connection is alive: a dead peer is detected by keep-alive requests."""
        return bool(self._connection.transport.is_active())

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float | None = None, check: bool = False
    ) -> Completed:
        """Run a command with ``stdin`` and return its output.

        Args:
            argv: The command and its arguments, passed unchanged.
            stdin: All of its standard input.
            timeout: Seconds after which the command is killed on the board.
            check: Raise if the exit code is not 0.

        Raises:
            UnreachableError: The connection was lost.
            TimedOutError: The command timed out.
            EdgepackError: ``check``, and the exit code is not 0.
        """
        return self._complete(launched(self.agent(), argv), stdin=stdin, timeout=timeout, check=check)

    def _complete(
        self, launch: Launch, *, stdin: bytes = b"", timeout: float | None = None, check: bool = False
    ) -> Completed:
        with Process(self.name, self._connection.transport, launch) as process:
            # In a thread, since the command may fill its output before it reads its input.
            feeder = threading.Thread(target=_feed, args=(process, stdin), daemon=True)
            feeder.start()
            try:
                code = process.wait(timeout)
            except TimeoutError as error:
                process.terminate()
                raise TimedOutError(
                    f"a command timed out after {timeout:g} s: {process.command[:200]}",
                    where=self.name,
                    why=last_lines(process.stderr) or "no output",
                    state="the command was killed on the device",
                    next="the board may be overloaded or out of memory; `edgepack devices info` shows its state",
                ) from error
            completed = Completed(code, process.read(timeout), process.stderr)
        if check and code != 0:
            raise EdgepackError(
                f"a command failed with exit code {code}: {process.command[:200]}",
                where=self.name,
                why=last_lines(completed.stderr) or last_lines(completed.stdout) or "no output",
            )
        return completed

    def stream(self, argv: Sequence[str]) -> Process:
        """Start a command; use it as a context manager, which kills the command on the board.

        Raises:
            UnreachableError: The connection was lost, or the server refused to start a command.
        """
        return Process(self.name, self._connection.transport, launched(self.agent(), argv))

    def agent(self) -> str:
        """The path of this edgepack's static agent on the board, relative to the login directory if ``work_dir`` is.

        At the first call, one round trip finds out whether it is there; if it is missing or damaged, it is sent.

        Raises:
            DeployError: The board cannot store or run it.
            UnreachableError: The connection was lost, or the login shell does not run commands.
        """
        with self._placing:
            if self._agent is None:
                self._agent = place_agent(self.name, self._plain, self._work_dir)
            return self._agent

    def _plain(self, script: str, stdin: bytes, timeout: float) -> Completed:
        return self._complete(plain(script), stdin=stdin, timeout=timeout)

    def put(self, source: Path, dest: str, *, mode: int = 0o644, progress: ChunkSent | None = None) -> None:
        """Send a file atomically. The folder of ``dest`` must exist.

        ``progress`` is called with the number of bytes just sent.

        Raises:
            DeployError: The board cannot store it: no space, no permission, no such folder.
            UnreachableError: The connection was lost.
        """
        with source.open("rb") as file:
            self._put(file, source.stat().st_size, dest, mode, progress=progress)

    def put_bytes(self, data: bytes, dest: str, mode: int = 0o644) -> None:
        """Send bytes as a file, as ``put`` does."""
        self._put(io.BytesIO(data), len(data), dest, mode)

    def _put(
        self, source: BinaryIO, size: int, dest: str, mode: int, *, progress: ChunkSent | None = None
    ) -> None:
        with self.stream([self.agent(), "write-file", dest, f"{mode:o}", str(size)]) as receiver:
            send(self.name, receiver, source, size, dest, progress=progress)

    def get(self, source: str, dest: Path) -> None:
        """Fetch a file from the board.

        Raises:
            EdgepackError: There is no such file, or it cannot be read.
            UnreachableError: The connection was lost.
        """
        data = self.read(source)
        if data is None:
            raise EdgepackError(f"cannot read {source}", where=self.name, why="there is no such file")
        write_atomic(dest, data)

    def read(self, source: str) -> bytes | None:
        """The contents of a small file on the board; None if it does not exist.

        Raises:
            EdgepackError: It cannot be read.
            UnreachableError: The connection was lost.
        """
        with self.stream([self.agent(), "read-file", source]) as sender:
            return fetch(self.name, sender, source)

    def close(self) -> None:
        """Close the connection; running commands are killed on the board."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _feed(process: Process, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):  # it exited without reading all input; see its exit code
        if data:
            process.stdin.write(data)
        process.stdin.close()
