"""SSH connections: TCP, jump hosts, host keys, authentication, and detection of dead peers."""

import itertools
import logging
import shlex
import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from edgepack.config.device import Device
from edgepack.errors import TrustError, UnreachableError, UsageError
from edgepack.remote import sshconfig
from edgepack.remote.auth import authenticate
from edgepack.remote.hostkeys import Keyring, KeyVerdict, plain_key, remember
from edgepack.remote.proxy import ProxyProcess, proxy_process
from edgepack.remote.publickey import HostKey
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
# ConnectTimeout 0 leaves it to the system, which gives up after two minutes. A jump host's system may not.
_NO_LIMIT_S = 130.0

# What is no longer safe, by paramiko's words for an algorithm that both sides lack.
_OLD_SERVERS = {
    "no acceptable host key": "host keys with signatures that are no longer safe: ssh-rsa, with SHA-1, or DSA",
    "no acceptable kex": "key exchanges that are no longer safe",
}
_UPDATE = (
    "update the board's SSH server; for a host key, an Ed25519 key will do: ssh-keygen -A on the board, or with dropbear "
    "dropbearkey -t ed25519 -f /etc/dropbear/dropbear_ed25519_host_key"
)

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
    endpoint = _resolve(name, device)
    stack = ExitStack()
    try:
        keyring = Keyring(endpoint, device=name, pinned=device.host_key)
        transport = _reach(endpoint, keyring, stack)
        _check_host_key(transport, keyring)
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
    endpoint = _resolve(name, device)
    keyring = Keyring(endpoint, device=name, pinned=device.host_key)
    with ExitStack() as stack:
        sent = _host_key(_reach(endpoint, keyring, stack))
    key = plain_key(sent)
    if fingerprint is not None and key.fingerprint != fingerprint:
        raise TrustError(
            f"{endpoint} has a different host key: {key.type} {key.fingerprint}",
            where=name,
            why=f"expected {fingerprint}",
            state="no key was added",
            next="check the key on the board: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
        )
    verdict = keyring.judge(sent)
    if verdict is KeyVerdict.UNKNOWN:
        remember(endpoint, key)
    elif verdict is not KeyVerdict.KNOWN:
        raise keyring.refusal(sent, verdict)
    return key.fingerprint


def _resolve(name: str, device: Device) -> Endpoint:
    try:
        return sshconfig.resolve(device)
    except UnreachableError as error:
        error.where = error.where or name
        raise


def _reach(endpoint: Endpoint, keyring: Keyring, stack: ExitStack) -> "Transport":
    """A transport to the endpoint after key exchange, before the host key check and authentication."""
    name, hops = keyring.device, (*endpoint.jumps, endpoint)
    command = hops[0].proxy_command
    proxy = stack.enter_context(proxy_process(command)) if command else None
    sock: socket.socket | Channel = proxy.socket if proxy else stack.enter_context(_tcp(name, hops[0]))
    for hop, following in itertools.pairwise(hops):
        of_hop = Keyring(hop, device=name, jump=True)
        transport = _handshake(sock, of_hop, stack, proxy)
        _check_host_key(transport, of_hop)
        authenticate(transport, hop, name)
        sock = _through(name, transport, hop, following)
        proxy = None
    return _handshake(sock, keyring, stack, proxy)


def _tcp(name: str, hop: Endpoint) -> socket.socket:
    try:
        sock = _dial(hop)
    except (socket.gaierror, UnicodeError) as error:  # UnicodeError: a label of the name is empty or too long
        raise UnreachableError(
            f"the host name {hop.host!r} cannot be resolved",
            where=name,
            why=getattr(error, "strerror", None) or str(error),
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
        within = "" if hop.timeout is None else f" within {hop.timeout:g} s"
        raise UnreachableError(
            f"{hop.host} did not respond on port {hop.port}{within}",
            where=name,
            why="the board is off, on another network, or behind a firewall",
            next=f"check its power and network, then: {_ssh(hop)}",
        ) from error
    except OSError as error:
        raise UnreachableError(
            f"cannot connect to {hop.host} port {hop.port}",
            where=name,
            why=error.strerror or str(error),
            next=f"try: {_ssh(hop)}",
        ) from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
    return sock


def _dial(hop: Endpoint) -> socket.socket:
    """A TCP connection with the first address that takes it, as socket.create_connection makes it."""
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(
        hop.host, hop.port, hop.family, socket.SOCK_STREAM
    ):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(hop.timeout)
            if hop.bind_address:
                sock.bind((hop.bind_address, 0))
            sock.connect(address)
        except OSError as error:
            failure = error
            sock.close()
        else:
            return sock
    raise failure or OSError("the name has no address")


def _ssh(hop: Endpoint) -> str:
    return shlex.join(["ssh", "-p", str(hop.port), f"{hop.user}@{hop.host}", "true"])


def _through(name: str, transport: "Transport", hop: Endpoint, following: Endpoint) -> "Channel":
    import paramiko

    try:
        return transport.open_channel(
            "direct-tcpip",
            (following.host, following.port),
            ("127.0.0.1", 0),
            timeout=following.timeout or _NO_LIMIT_S,
        )
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise UnreachableError(
            f"the jump host {hop} cannot connect to {following.host} port {following.port}",
            where=name,
            why=str(error) or "it closed the connection",
            next=f"try: {_ssh(following)} -J {shlex.quote(hop.alias)}",
        ) from error


def _handshake(
    sock: "socket.socket | Channel", keyring: Keyring, stack: ExitStack, proxy: ProxyProcess | None
) -> "Transport":
    import paramiko

    from edgepack.remote.transport import ClientTransport, host_key_algorithms

    hop = keyring.endpoint
    algorithms = host_key_algorithms(hop.host_key_algorithms)
    if not algorithms:
        raise UsageError(
            f"HostKeyAlgorithms of {hop.alias} has no algorithm that edgepack supports",
            where="~/.ssh/config",
            why=f"it is {hop.host_key_algorithms}",
            next=f"add one of {', '.join(host_key_algorithms(None))}",
        )
    if (hop.host_key_algorithms or "-")[0] in "+-":
        algorithms = keyring.preferred(algorithms)
    try:
        transport = ClientTransport(sock, algorithms)
        stack.callback(transport.close)
        transport.auth_timeout = transport.channel_timeout = _HANDSHAKE_TIMEOUT_S
        # Never the first of the two: its message says nothing of time.
        transport.banner_timeout = 2 * _HANDSHAKE_TIMEOUT_S
        transport.start_client(timeout=_HANDSHAKE_TIMEOUT_S)
        transport.get_remote_server_key()  # start_client does not report a timeout; this does
    except (paramiko.SSHException, EOFError, OSError) as error:
        sock.close()
        reasons = [_reason(error)]
        if proxy is not None and (messages := proxy.messages()):
            reasons.append(messages)
        old = next((it for words, it in _OLD_SERVERS.items() if words in str(error)), None)
        if "host key" in str(error) and hop.host_key_algorithms is not None:
            old = None  # the user's setting may be what excludes them
            reasons.append(f"HostKeyAlgorithms is {hop.host_key_algorithms}")
        if old is not None:
            reasons.append(f"the server offers only {old}, which edgepack refuses, as OpenSSH does")
        advice = f"is that port an SSH server's? Try: {_ssh(hop)}" if old is None else _UPDATE
        raise UnreachableError(
            f"no SSH connection with {hop.host} port {hop.port}",
            where=keyring.device,
            why="; ".join(reasons),
            next=advice
            if proxy is None
            else f"correct ProxyCommand in ~/.ssh/config; try: ssh -v {shlex.quote(hop.alias)} true",
        ) from error
    return transport


def _reason(error: Exception) -> str:
    if str(error) == "No existing session":  # paramiko's words after a timeout
        return f"no answer within {_HANDSHAKE_TIMEOUT_S:g} s"
    return str(error) or "the server closed the connection during the handshake"


def _host_key(transport: "Transport") -> HostKey:
    key = transport.get_remote_server_key()
    if key.public_blob is not None:  # a certificate
        return HostKey(key.public_blob.key_type, key.public_blob.key_blob)
    return HostKey(key.get_name(), key.asbytes())


def _check_host_key(transport: "Transport", keyring: Keyring) -> None:
    keyring.check(_host_key(transport))
