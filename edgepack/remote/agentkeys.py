"""The keys in ssh-agent, asked for with a time limit: a stopped agent answers nothing."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import paramiko
from paramiko.agent import AgentKey, AgentSSH

from edgepack.remote.publickey import CERTIFIED, Fields

_REQUEST_IDENTITIES, _IDENTITIES_ANSWER = 11, 12  # draft-ietf-sshm-ssh-agent, 3.5
_LONGEST_ANSWER = 1 << 18  # bytes, as in OpenSSH
_LIST_TIMEOUT_S = 5.0
# Some agents ask the user before they sign, or wait for a touch of a hardware key. Less than the connection's limit.
_SIGN_TIMEOUT_S = 25.0


class SocketAgent(AgentSSH):
    """A connection with the agent behind a socket; paramiko's own knows only that of SSH_AUTH_SOCK."""

    def __init__(self, path: Path) -> None:
        """Connect and list the keys.

        Raises:
            OSError, ValueError, SSHException: the agent does not answer, or not in its protocol.
        """
        super().__init__()
        self._conn = socket.socket(socket.AF_UNIX)
        try:
            self._conn.settimeout(_LIST_TIMEOUT_S)
            self._conn.connect(str(path))
            self.keys = self._list()
            self._conn.settimeout(_SIGN_TIMEOUT_S)
        except BaseException:
            self._conn.close()
            raise

    def _list(self) -> list["HeldKey"]:
        kind, answer = self._send_message(bytes([_REQUEST_IDENTITIES]))  # type: ignore[attr-defined]  # not in the stubs
        if kind != _IDENTITIES_ANSWER:
            raise ValueError("it does not list its keys")
        # paramiko's own reader takes any number of keys from an answer that ends before them.
        fields = Fields(answer.get_remainder())
        keys = []
        for _ in range(fields.number(4)):
            blob, comment = fields.string(), fields.string().decode("utf-8", "replace")
            with suppress(ValueError, OverflowError, paramiko.SSHException):  # a damaged key is left out
                keys.append(HeldKey(self, blob, comment))
        return keys

    def _read_all(self, wanted: int) -> bytes:
        if wanted > _LONGEST_ANSWER:
            raise ValueError("it is not an agent: its answer is too long")
        data: bytes = super()._read_all(wanted)  # type: ignore[misc]  # not in the stubs
        if len(data) < wanted:
            raise ValueError("it is not an agent: it sent no answer")
        return data

    def close(self) -> None:
        """Close the connection; the keys cannot sign any more."""
        self._close()  # type: ignore[attr-defined]  # not in paramiko's stubs


class HeldKey(AgentKey):
    """A key whose private half the agent holds. ``failure`` says why it did not sign."""

    def __init__(self, agent: SocketAgent, blob: bytes, comment: str) -> None:
        super().__init__(agent, blob, comment)
        self.failure: str | None = None
        if str(self.get_name()).endswith(CERTIFIED):
            self.public_blob = paramiko.pkey.PublicBlob(self.get_name(), blob)  # type: ignore[assignment]  # so declared

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
        yield agent.keys
    finally:
        agent.close()
