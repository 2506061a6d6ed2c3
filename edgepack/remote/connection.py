"""SSH connections: TCP, jump hosts, host keys, authentication, and detection of dead peers."""

import itertools
import logging
import socket
import subprocess
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from edgepack.config.device import Device
from edgepack.errors import TrustError, UnreachableError
from edgepack.remote import sshconfig
from edgepack.remote.auth import authenticate
from edgepack.remote.hostkeys import HostKey, Keyring, KeyVerdict, remember
from edgepack.remote.sshconfig import Endpoint

if TYPE_CHECKING:
    from paramiko import Channel, Transport

# A peer that acknowledges nothing for this long is considered dead by the kernel (tcp(7)).
TCP_USER_TIMEOUT_MS = 10_000
# Interval and timeout of keep-alive requests to the server. They detect what TCP cannot: a board that
# disappeared behind a jump host, or an sshd that hangs while its kernel still acknowledges.
HEARTBEAT_S = 5.0
HEARTBEAT_PATIENCE_S = 20.0
# A Raspberry Pi Zero under load, or an emulated board, takes seconds for the key exchange.
_HANDSHAKE_TIMEOUT_S = 30.0

# Failures are raised as our own errors; without a handler, logging would print paramiko's tracebacks.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class Connection:
    """An authenticated transport and the jump hosts' transports under it."""

    def __init__(self, transport: "Transport", stack: ExitStack) -> None:
        self.transport = transport
        self._stack = stack
        self._closed = threading.Event()
        threading.Thread(target=self._heartbeat, name="edgepack-heartbeat", daemon=True).start()

    def close(self) -> None:
        """Close everything, jump hosts last."""
        self._closed.set()
        self._stack.close()

    def _heartbeat(self) -> None:
        while not self._closed.wait(HEARTBEAT_S) and self.transport.is_active():
            late = threading.Timer(HEARTBEAT_PATIENCE_S, self.transport.close)
            late.daemon = True
            late.start()
            try:
                self.transport.global_request("keepalive@openssh.com", wait=True)
            except (OSError, EOFError):
                return  # the transport is closed; its users get an error from their own calls
            finally:
                late.cancel()


def open_connection(name: str, device: Device) -> Connection:
    """Connect and authenticate to a device.

    Raises:
        TrustError: A host key on the path is unknown, changed or revoked.
        UnreachableError: Name resolution, TCP, the SSH handshake or authentication failed.
        UsageError: The SSH configuration cannot be used.
    """
    endpoint = sshconfig.resolve(device)
    stack = ExitStack()
    try:
        transport = _reach(name, endpoint, device.host_key, stack)
        _check_host_key(transport, Keyring(endpoint, device=name, pinned=device.host_key))
        authenticate(transport, endpoint, name)
    except BaseException:
        stack.close()
        raise
    return Connection(transport, stack)


def trust(name: str, device: Device, *, fingerprint: str | None = None) -> str:
    """Fetch a device's host key, add it to the user's known_hosts, and return its fingerprint.

    A key that is already known is not changed. With ``fingerprint`` (``SHA256:…``) only that key is
    accepted; otherwise the caller should show the returned one to be compared with the board's.

    Raises:
        TrustError: Another key is known or pinned, it is not the expected one, or known_hosts cannot
            be written. Keys are never replaced.
        UnreachableError: The device does not respond.
    """
    endpoint = sshconfig.resolve(device)
    keyring = Keyring(endpoint, device=name, pinned=device.host_key)
    with ExitStack() as stack:
        key = _host_key(_reach(name, endpoint, device.host_key, stack))
    if fingerprint is not None and key.fingerprint != fingerprint:
        raise TrustError(
            f"{endpoint} has a different host key: {key.type} {key.fingerprint}",
            where=name,
            why=f"expected {fingerprint}",
            state="no key was added",
            next="check the key on the board: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
        )
    verdict = keyring.judge(key)
    if verdict is KeyVerdict.UNKNOWN:
        remember(endpoint, key)
    elif verdict is not KeyVerdict.KNOWN:
        raise keyring.refusal(key, verdict)
    return key.fingerprint


def _reach(name: str, endpoint: Endpoint, pinned: str | None, stack: ExitStack) -> "Transport":
    """A transport to the endpoint after key exchange, before the host key check and authentication."""
    hops = (*endpoint.jumps, endpoint)
    if endpoint.proxy_command:
        sock: socket.socket | Channel = _proxy_command(endpoint.proxy_command, stack)
    else:
        sock = _tcp(name, hops[0])
    for hop, following in itertools.pairwise(hops):
        keyring = Keyring(hop, device=name, jump=True)
        transport = _handshake(name, hop, sock, keyring, stack)
        _check_host_key(transport, keyring)
        authenticate(transport, hop, name)
        sock = _through(name, transport, hop, following)
    return _handshake(name, endpoint, sock, Keyring(endpoint, device=name, pinned=pinned), stack)


def _tcp(name: str, hop: Endpoint) -> socket.socket:
    try:
        sock = socket.create_connection((hop.host, hop.port), timeout=hop.timeout)
    except socket.gaierror as error:
        raise UnreachableError(
            f"the host name {hop.host!r} cannot be resolved",
            where=name,
            why=error.strerror,
            next="correct host in devices.yaml or HostName in ~/.ssh/config, or check that the board is on the network",
        ) from error
    except ConnectionRefusedError as error:
        raise UnreachableError(
            f"{hop.host} refused the connection on port {hop.port}",
            where=name,
            why="the machine is up, but nothing listens on that port",
            next="start sshd on the board (sudo systemctl enable --now ssh), or correct port in devices.yaml",
        ) from error
    except TimeoutError as error:
        raise UnreachableError(
            f"{hop.host} did not respond on port {hop.port} within {hop.timeout:g} s",
            where=name,
            why="the board is off, on another network, or behind a firewall",
            next=f"check its power and network, then: ssh -p {hop.port} {hop.user}@{hop.host} true",
        ) from error
    except OSError as error:
        raise UnreachableError(
            f"cannot connect to {hop.host} port {hop.port}",
            where=name,
            why=error.strerror or str(error),
            next=f"try: ssh -p {hop.port} {hop.user}@{hop.host} true",
        ) from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
    return sock


def _proxy_command(command: str, stack: ExitStack) -> socket.socket:
    """A socket whose other end is the standard input and output of ssh_config's ProxyCommand."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}"], stdin=theirs.fileno(), stdout=theirs.fileno()
        )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return ours


def _through(name: str, transport: "Transport", hop: Endpoint, following: Endpoint) -> "Channel":
    import paramiko

    try:
        return transport.open_channel(
            "direct-tcpip", (following.host, following.port), ("127.0.0.1", 0), timeout=following.timeout
        )
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise UnreachableError(
            f"the jump host {hop} cannot connect to {following.host} port {following.port}",
            where=name,
            why=str(error) or "it closed the connection",
            next=f"try: ssh -J {hop.alias} -p {following.port} {following.user}@{following.host} true",
        ) from error


def _handshake(
    name: str, hop: Endpoint, sock: "socket.socket | Channel", keyring: Keyring, stack: ExitStack
) -> "Transport":
    import paramiko

    try:
        transport = paramiko.Transport(sock)
        stack.callback(transport.close)
        transport.banner_timeout = transport.auth_timeout = transport.channel_timeout = _HANDSHAKE_TIMEOUT_S
        options = transport.get_security_options()
        options.key_types = _preferred(options.key_types, keyring.key_types())
        transport.start_client(timeout=_HANDSHAKE_TIMEOUT_S)
        transport.get_remote_server_key()  # start_client does not report a timeout; this does
    except (paramiko.SSHException, EOFError, OSError) as error:
        sock.close()
        raise UnreachableError(
            f"no SSH connection with {hop.host} port {hop.port}",
            where=name,
            why=str(error) or "the server closed the connection during the handshake",
            next=f"is that port an SSH server's? Try: ssh -v -p {hop.port} {hop.user}@{hop.host} true",
        ) from error
    return transport


def _preferred(offered: Sequence[str], known: list[str]) -> tuple[str, ...]:
    """Host key algorithms with those of the known keys in front, as ssh orders them."""
    if "ssh-rsa" in known:  # an RSA key signs with SHA-2 today
        known = ["rsa-sha2-512", "rsa-sha2-256", *known]
    return tuple(sorted(offered, key=lambda algorithm: algorithm not in known))


def _host_key(transport: "Transport") -> HostKey:
    key = transport.get_remote_server_key()
    return HostKey(key.get_name(), key.asbytes())


def _check_host_key(transport: "Transport", keyring: Keyring) -> None:
    keyring.check(_host_key(transport))
