"""ssh_config's ProxyCommand: a program whose standard input and output are the connection."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_GRACE_S = 1.0  # for a command that ends when its connection does
_SHOWN = 2000  # bytes of its messages


@dataclass(frozen=True)
class ProxyProcess:
    """A running ProxyCommand."""

    socket: socket.socket  # the connection
    process: subprocess.Popen[bytes]
    output: BinaryIO  # its standard error

    def messages(self) -> str:
        """What it wrote on standard error, and its exit code if it ended; empty if there is neither."""
        parts = []
        # A command that fails closes the connection just before it ends.
        with contextlib.suppress(subprocess.TimeoutExpired):
            parts.append(f"ProxyCommand ended with exit code {self.process.wait(_GRACE_S)}")
        size = self.output.seek(0, os.SEEK_END)
        self.output.seek(max(0, size - _SHOWN))
        if text := self.output.read().decode(errors="replace").strip():
            parts.append(text)
        return ": ".join(parts)


@contextlib.contextmanager
def proxy_process(command: str) -> Iterator[ProxyProcess]:
    """Run ``command`` in the user's shell, as ssh does; it is ended with the block, whatever it ignores.

    Raises:
        OSError: the shell cannot be started.
    """
    ours, theirs = socket.socketpair()
    with tempfile.TemporaryFile() as output, ours:
        with theirs:
            # A session of its own: Ctrl-C in the terminal does not cut the connection off before edgepack has
            # cleaned up, and all its processes can be ended together.
            process = subprocess.Popen(
                [os.environ.get("SHELL") or "/bin/sh", "-c", command],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=output.fileno(),
                start_new_session=True,
            )
        try:
            yield ProxyProcess(ours, process, output)
        finally:
            for number in (
                signal.SIGTERM,
                signal.SIGKILL,
            ):  # the second one for what is left of its processes, too
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_GRACE_S)
