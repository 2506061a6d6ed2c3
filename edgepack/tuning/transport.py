"""What the runner needs of a connection to a board. ``edgepack.remote.session.Session`` has it."""

from collections.abc import Sequence
from typing import Protocol


class BoardStdin(Protocol):
    """The standard input of a process on the board."""

    def write(self, data: bytes, /) -> int:
        """Send all of it; raises OSError when the process or the connection is gone."""


class BoardProcess(Protocol):
    """A process on the board."""

    @property
    def stdin(self) -> BoardStdin:
        """Its standard input."""

    @property
    def stderr(self) -> bytes:
        """What it has written to standard error so far."""

    def readline(self, timeout: float | None = None, /) -> bytes:
        """The next line of its standard output; ``b""`` at the end; raises TimeoutError."""

    def terminate(self) -> None:
        """End it, and everything it started."""


class Transport(Protocol):
    """A connection to a board."""

    def stream(self, argv: Sequence[str]) -> BoardProcess:
        """Start a process whose standard streams are ours; raises UnreachableError."""

    def close(self) -> None:
        """Close the connection."""
