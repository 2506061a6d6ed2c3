"""paramiko's transport with the host key algorithms that are to be used, certificates among them."""

import socket
from collections.abc import Sequence

import paramiko

from edgepack.remote.publickey import CERTIFIED, chosen

# ssh's order; paramiko verifies the signatures of all of these.
_PLAIN = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
_ALL = (*(f"{name}{CERTIFIED}" for name in _PLAIN), *_PLAIN)


class ClientTransport(paramiko.Transport):
    """A transport that offers exactly the given host key algorithms."""

    def __init__(self, sock: "socket.socket | paramiko.Channel", algorithms: Sequence[str]) -> None:
        super().__init__(sock)
        self.use_compression()  # if the server has it: of listings, which repeat themselves, a tenth is left
        self._algorithms = tuple(algorithms)

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """The host key algorithms to offer, the preferred one first."""
        return self._algorithms


def host_key_algorithms(setting: str | None) -> list[str]:
    """The algorithms that ssh_config's HostKeyAlgorithms means, of those that can be used."""
    return chosen(setting, _ALL)
