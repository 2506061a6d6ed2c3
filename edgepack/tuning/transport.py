"""The connection interface that the runner requires; ``edgepack.remote.session.Session`` implements it."""

from collections.abc import Sequence
from typing import Protocol


class BoardStdin(Protocol):
    """Standard input of a process on the board."""

    def write(self, data: bytes, /) -> int:
        """Send all data; raises OSError if the process or the connection has ended."""


class BoardProcess(Protocol):
    """A process on the board."""

    @property
    def stdin(self) -> BoardStdin:
        """Standard input of the process."""

    @property
    def stderr(self) -> bytes:
        """Standard error output of the process so far."""

    def readline(self, timeout: float | None = None, /) -> bytes:
        """Return the next line of standard output; ``b""`` at the end; raises TimeoutError."""

    def terminate(self) -> None:
        """Terminate the process and all processes it started."""


class Transport(Protocol):
    """A connection to a board."""

    def stream(self, argv: Sequence[str]) -> BoardProcess:
        """Start a process with piped standard streams; raises UnreachableError."""

    def close(self) -> None:
        """Close the connection."""
