"""Opens SFTP on a connection, whatever the board's login shell prints before."""

import re
from typing import TYPE_CHECKING

from edgepack.errors import UnreachableError
from edgepack.remote.process import QUIET_SHELL, broken, last_lines, lost

if TYPE_CHECKING:
    from paramiko import Channel, SFTPClient, Transport

_ANSWER_TIMEOUT_S = 30.0
_CHUNK = 32_768
# The server's first packet, SSH_FXP_VERSION: its length, less than 64 KiB, its type 2, and a version below 256.
_VERSION = re.compile(rb"\0\0..\x02\0\0\0.", re.DOTALL)


class _FirstAnswer:
    """A channel from the server's first packet on.

    Where the server is a program, sshd runs it in the login shell, whose start-up file may print a greeting.
    """

    def __init__(self, channel: "Channel") -> None:
        self.greeting = bytearray()  # all that came, until the packet begins
        self._channel = channel
        self._answer = bytearray()

    def recv(self, size: int) -> bytes:
        """Up to ``size`` bytes of the answer; empty at the end."""
        while not self._answer:
            chunk = self._channel.recv(_CHUNK)
            if not chunk:
                return b""
            self.greeting += chunk
            if found := _VERSION.search(self.greeting):
                self._answer = self.greeting[found.start() :]
                del self.greeting[found.start() :]
        taken = bytes(self._answer[:size])
        del self._answer[:size]
        return taken or self._channel.recv(size)

    def send(self, data: bytes) -> int:
        """Send data; the number of bytes sent."""
        return self._channel.send(data)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def get_name(self) -> str:
        """The channel's name in paramiko's log."""
        return self._channel.get_name()


def open_sftp(device: str, transport: "Transport") -> "SFTPClient":
    """An SFTP client; ``device`` is the device's name for messages.

    Raises:
        UnreachableError: the connection was lost, the board has no SFTP server, or it does not answer.
    """
    import paramiko

    try:
        channel = transport.open_session()
        channel.invoke_subsystem("sftp")
    except (paramiko.SSHException, EOFError, OSError) as error:
        if broken(transport):
            raise lost(device, transport, "opening SFTP") from error
        raise UnreachableError(
            "the board does not support SFTP",
            where=device,
            why=str(error) or "its SSH server has no sftp subsystem",
            next="install openssh-sftp-server on the board and restart its SSH server",
        ) from error
    channel.settimeout(_ANSWER_TIMEOUT_S)
    first = _FirstAnswer(channel)
    try:
        client = paramiko.SFTPClient(first)  # type: ignore[arg-type]  # it uses no more of a channel
    except (paramiko.SFTPError, paramiko.SSHException, EOFError, OSError) as error:
        channel.close()
        if broken(transport):
            raise lost(device, transport, "opening SFTP") from error
        shown = last_lines(bytes(first.greeting), 3)
        raise UnreachableError(
            "the board's SFTP server does not answer",
            where=device,
            why=f"the login shell printed: {shown}" if shown else str(error) or "it ended at once",
            next=QUIET_SHELL if shown else "check the Subsystem line in the board's /etc/ssh/sshd_config",
        ) from error
    channel.settimeout(None)
    client.sock = channel  # the answer is read; nothing more is kept back
    return client
