"""The endpoint of a device, from ``devices.yaml`` and the user's SSH configuration.

``~/.ssh/config`` is read first, then ``/etc/ssh/ssh_config``; the first value of an option is used, as
in ssh_config(5). Settings in ``devices.yaml`` override both.
"""

import getpass
import glob
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.config.device import Device
from edgepack.errors import UsageError

if TYPE_CHECKING:
    from paramiko import SSHConfig

SSH_PORT = 22
CONNECT_TIMEOUT_S = 10.0
_MAX_INCLUDE_DEPTH = 16
_DEFAULT_IDENTITIES = ("id_ed25519", "id_ecdsa", "id_rsa")


@dataclass(frozen=True)
class Endpoint:
    """One SSH server: address, user, keys and known_hosts files."""

    alias: str  # as written by the user
    host: str
    port: int
    user: str
    identity_files: tuple[Path, ...]
    identities_only: bool  # do not offer the agent's other keys
    use_agent: bool
    user_known_hosts: tuple[Path, ...]  # the first one is written by ``edgepack devices trust``
    global_known_hosts: tuple[Path, ...]
    hash_known_hosts: bool
    key_name: str  # the server's name in known_hosts: host, [host]:port or HostKeyAlias
    timeout: float  # seconds, TCP connect
    proxy_command: str | None = None
    jumps: tuple["Endpoint", ...] = field(default=())  # first hop first

    def __str__(self) -> str:
        port = "" if self.port == SSH_PORT else f":{self.port}"
        return f"{self.user}@{self.host}{port}"


def ssh_dir() -> Path:
    """The user's ``~/.ssh``."""
    return Path("~/.ssh").expanduser()


def resolve(device: Device) -> Endpoint:
    """The endpoint of a device, including its jump hosts.

    Raises:
        UsageError: The SSH configuration cannot be parsed, or its ProxyJump is circular.
    """
    endpoint = _resolve(device.host, _load_config(), seen=())
    if device.user:
        endpoint = replace(endpoint, user=device.user)
    if device.port:
        named = endpoint.key_name not in {endpoint.host, _key_name(endpoint.host, endpoint.port)}
        key_name = endpoint.key_name if named else _key_name(endpoint.host, device.port)
        endpoint = replace(endpoint, port=device.port, key_name=key_name)
    if device.identity_file:
        # Explicitly configured, so only this key is offered and MaxAuthTries is not used up by others.
        identity = Path(device.identity_file).expanduser()
        endpoint = replace(endpoint, identity_files=(identity,), identities_only=True)
    return endpoint


def _resolve(alias: str, config: "SSHConfig", seen: tuple[str, ...]) -> Endpoint:
    if alias in seen:
        chain = " -> ".join([*seen, alias])
        raise UsageError(f"ProxyJump is circular: {chain}", next="Correct ProxyJump in ~/.ssh/config.")
    try:
        options = config.lookup(alias)
        port = int(options.get("port", SSH_PORT))
        timeout = float(options.get("connecttimeout", CONNECT_TIMEOUT_S))
    except (ImportError, ValueError, KeyError) as error:  # Match exec without invoke; Port ssh
        raise UsageError(
            f"the SSH configuration of {alias!r} cannot be used",
            where="~/.ssh/config",
            why=str(error),
            next=f"See how ssh itself reads it: ssh -G {alias}",
        ) from error
    host = options["hostname"]
    files = [Path(name).expanduser() for name in options.get("identityfile", [])]
    return Endpoint(
        alias=alias,
        host=host,
        port=port,
        user=options.get("user", getpass.getuser()),
        identity_files=tuple(files or [ssh_dir() / name for name in _DEFAULT_IDENTITIES]),
        identities_only=bool(files) and options.get("identitiesonly", "no").lower() == "yes",
        use_agent=options.get("identityagent", "").lower() != "none",
        user_known_hosts=_paths(options.get("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2")),
        global_known_hosts=_paths(
            options.get("globalknownhostsfile", "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2")
        ),
        hash_known_hosts=options.get("hashknownhosts", "no").lower() == "yes",
        key_name=options.get("hostkeyalias") or _key_name(host, port),
        timeout=timeout,
        proxy_command=options.get("proxycommand"),
        jumps=_jumps(options.get("proxyjump"), config, (*seen, alias)),
    )


def _jumps(value: str | None, config: "SSHConfig", seen: tuple[str, ...]) -> tuple[Endpoint, ...]:
    """``ProxyJump user@host:port,…`` as endpoints, preceded by the jump hosts' own ProxyJump."""
    if not value or value.lower() == "none":
        return ()
    hops: list[Endpoint] = []
    for index, item in enumerate(value.split(",")):
        user, _, address = item.strip().removeprefix("ssh://").rpartition("@")
        host, port = _split_port(address)
        hop = _resolve(host, config, seen)
        if user:
            hop = replace(hop, user=user)
        if port:
            hop = replace(hop, port=port, key_name=_key_name(hop.host, port))
        # Only the first hop is reached directly; the others through the previous hop.
        hops += [*(hop.jumps if index == 0 else ()), replace(hop, jumps=())]
    return tuple(hops)


def _split_port(address: str) -> tuple[str, int | None]:
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        port = rest.removeprefix(":")
    elif address.count(":") == 1:
        host, _, port = address.partition(":")
    else:  # a name, or a bare IPv6 address
        host, port = address, ""
    if port and not port.isdigit():
        raise UsageError(
            f"ProxyJump has an invalid port: {address}", next="Correct ProxyJump in ~/.ssh/config."
        )
    return host, int(port) if port else None


def _key_name(host: str, port: int) -> str:
    return host if port == SSH_PORT else f"[{host}]:{port}"


def _paths(value: str) -> tuple[Path, ...]:
    return tuple(Path(name).expanduser() for name in shlex.split(value) if name.lower() != "none")


def _load_config() -> "SSHConfig":
    import paramiko

    config = paramiko.SSHConfig()
    for path in (ssh_dir() / "config", Path("/etc/ssh/ssh_config")):
        try:
            config.parse(_lines(path, depth=0))
        except paramiko.ssh_exception.ConfigParseError as error:
            raise UsageError(
                "the SSH configuration cannot be read",
                where=str(path),
                why=str(error),
                next=f"Correct {path}.",
            ) from error
    return config


def _lines(path: Path, depth: int) -> Iterator[str]:
    """The lines of a configuration file with ``Include`` lines replaced by the files' contents.

    paramiko ignores ``Include``. After an included file the enclosing Host or Match line is repeated,
    since the file may contain blocks of its own.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return  # like ssh, treat a missing or unreadable configuration as empty
    header = "Host *"
    for line in text.splitlines():
        words = line.strip().replace("=", " ", 1).split(None, 1)
        keyword = words[0].lower() if words else ""
        if keyword in {"host", "match"}:
            header = line
        if keyword != "include" or len(words) == 1 or depth >= _MAX_INCLUDE_DEPTH:
            yield line
            continue
        for pattern in shlex.split(words[1]):
            base = ssh_dir() if path.is_relative_to(ssh_dir()) else Path("/etc/ssh")
            for name in sorted(glob.glob(str(base / Path(pattern).expanduser()))):  # noqa: PTH207 - Path.glob takes no absolute pattern
                yield from _lines(Path(name), depth + 1)
        yield header
