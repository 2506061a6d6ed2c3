"""The keys in ssh-agent, asked for with a time limit: a stopped agent answers nothing."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko
from paramiko.agent import AgentKey, AgentSSH

from edgepack.remote.publickey import CERTIFIED

_LIST_TIMEOUT_S = 5.0
# Some agents ask the user before they sign, or wait for a touch of a hardware key. Less than the connection's limit.
_SIGN_TIMEOUT_S = 25.0


class SocketAgent(AgentSSH):
    """A connection with the agent behind a socket; paramiko's own knows only that of SSH_AUTH_SOCK."""

    def __init__(self, path: Path) -> None:
        """Connect and list the keys.

        Raises:
            OSError, SSHException: the agent does not answer, or not in its protocol.
        """
        super().__init__()
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(_LIST_TIMEOUT_S)
            connection.connect(str(path))
            self._connect(connection)  # type: ignore[attr-defined]  # not in paramiko's stubs
            connection.settimeout(_SIGN_TIMEOUT_S)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close the connection; the keys cannot sign any more."""
        self._close()  # type: ignore[attr-defined]  # not in paramiko's stubs


class HeldKey(AgentKey):
    """A key whose private half the agent holds. ``failure`` says why it did not sign."""

    def __init__(self, agent: SocketAgent, key: AgentKey) -> None:
        super().__init__(agent, key.blob, key.comment)
        self.failure: str | None = None
        if str(key.get_name()).endswith(CERTIFIED):
            self.public_blob = paramiko.pkey.PublicBlob(key.get_name(), key.blob)  # type: ignore[assignment]  # so declared

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> bytes:  # type: ignore[override]  # bytes they are, unlike in the stubs
        """Sign data. If the agent does not, the signature is empty, which no server accepts.

        An exception would end the whole connection: paramiko signs in the thread that reads from it.
        """
        try:
            return bytes(super().sign_ssh_data(data, algorithm))
        except TimeoutError:
            self.failure = f"the agent did not sign within {_SIGN_TIMEOUT_S:g} s"
        except (OSError, ValueError, paramiko.SSHException) as error:
            self.failure = f"the agent did not sign: {error}"
        return b""


@contextmanager
def agent_keys(path: Path) -> Iterator[list[HeldKey]]:
    """The keys of an agent; the connection is open within the block.

    Raises:
        OSError, ValueError, SSHException: the agent does not answer, or not in its protocol.
    """
    agent = SocketAgent(path)
    try:
        yield [HeldKey(agent, key) for key in agent.get_keys()]
    finally:
        agent.close()
