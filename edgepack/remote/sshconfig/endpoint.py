"""The endpoint of a device, from ``devices.yaml`` and the user's SSH configuration.

``~/.ssh/config`` is read first, then ``/etc/ssh/ssh_config``; the first value of an option is used. Settings in
``devices.yaml`` override both, as options on ssh's command line do.
"""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote

from edgepack.config.device import Device
from edgepack.errors import UsageError
from edgepack.remote.sshconfig.canonical import canonical_name, family
from edgepack.remote.sshconfig.context import HostOptions
from edgepack.remote.sshconfig.options import SSH_PORT, split_hop
from edgepack.remote.sshconfig.reader import ConfigFile, Reader
from edgepack.remote.sshconfig.tokens import check_for_shell, check_host, expand, expand_home, expand_path

CONNECT_TIMEOUT_S = 10.0
_LONGEST_SHOWN = 80  # characters of a name
SYSTEM_FOLDER = Path("/etc/ssh")
Hop = tuple[str | None, str, int | None]  # user, host, port
_DEFAULT_IDENTITIES = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")


@dataclass(frozen=True)
class Endpoint:
    """One SSH server: address, user, keys and known_hosts files."""

    alias: str  # as written by the user
    host: str
    port: int
    user: str
    identity_files: tuple[Path, ...]
    identities_only: bool  # do not offer the agent's other keys
    identities_named: bool  # the user named them; the default files are optional
    certificate_files: tuple[Path, ...]
    agent: Path | None  # the socket of ssh-agent
    public_keys: bool  # PubkeyAuthentication
    user_known_hosts: tuple[Path, ...]  # the first one is written by ``edgepack devices trust``
    global_known_hosts: tuple[Path, ...]
    revoked_host_keys: tuple[Path, ...]
    hash_known_hosts: bool
    host_key_algorithms: str | None  # a list, or a change of the usual list by +, - or ^
    ca_algorithms: str | None  # the same, for the signatures of certificate authorities
    key_name: str  # the server's name in known_hosts: host, [host]:port or HostKeyAlias
    certified_name: str  # its name in a host certificate: host or HostKeyAlias
    timeout: float | None  # seconds, TCP connect; None: as long as the system tries
    family: socket.AddressFamily
    bind_address: str | None  # of this machine
    proxy_command: str | None = None
    jumps: tuple["Endpoint", ...] = field(default=())  # first hop first

    def __str__(self) -> str:
        port = "" if self.port == SSH_PORT else f":{self.port}"
        return f"{_shown(self.user)}@{_shown(self.host)}{port}"


def ssh_dir() -> Path:
    """The user's ``~/.ssh``."""
    return Path("~/.ssh").expanduser()


def config_files() -> list[ConfigFile]:
    """The files that ssh reads, in its order."""
    return [
        ConfigFile(ssh_dir() / "config", ssh_dir(), own=True, checked=True),
        ConfigFile(SYSTEM_FOLDER / "ssh_config", SYSTEM_FOLDER, own=False, checked=False),
    ]


def resolve(device: Device) -> Endpoint:
    """The endpoint of a device, including its jump hosts.

    Raises:
        ConfigError: The SSH configuration has lines that ssh would refuse.
        UnreachableError: A name cannot be that of a host, or has no place in the command that it would be put into.
        UsageError: Its ProxyJump is circular, or it needs something that edgepack does not have.
    """
    endpoint = find(device.host, device.user, device.port, config_files())
    if device.identity_file:
        # Explicitly configured, so only this key is offered and MaxAuthTries is not used up by others.
        try:
            identity = Path(expand_home(device.identity_file))
        except ValueError as error:
            raise UsageError(
                f"identity_file {device.identity_file} cannot be used",
                where="devices.yaml",
                why=str(error),
                next="correct identity_file in devices.yaml",
            ) from error
        endpoint = replace(
            endpoint,
            identity_files=(identity,),
            certificate_files=(),
            identities_only=True,
            identities_named=True,
        )
    return endpoint


def find(
    alias: str, user: str | None, port: int | None, files: Sequence[ConfigFile], seen: tuple[str, ...] = ()
) -> Endpoint:
    """The endpoint of ``ssh -l USER -p PORT ALIAS``; ``seen`` are the hosts that lead here by their ProxyJump.

    Raises:
        ConfigError, UnreachableError, UsageError: as ``resolve``.
    """
    if alias in seen:
        chain = " -> ".join([*seen, alias])
        raise UsageError(f"ProxyJump is circular: {chain}", next="Correct ProxyJump in ~/.ssh/config.")
    endpoint, hops = look_up(alias, user, port, files)
    return replace(endpoint, jumps=_jumps(hops, files, (*seen, alias)))


def look_up(
    alias: str, user: str | None, port: int | None, files: Sequence[ConfigFile]
) -> tuple[Endpoint, list[Hop]]:
    """An endpoint, and the hops of its ProxyJump as they are written.

    Raises:
        ConfigError, UnreachableError, UsageError: as ``resolve``.
    """
    check_host(alias)
    try:
        context = read_options(alias, user, port, files)
        hops = _hops(context)
        return _endpoint(context, direct=not hops), hops
    except ValueError as error:  # a token, a variable or a user that does not exist
        raise UsageError(
            f"the SSH configuration of {alias!r} cannot be used",
            where="~/.ssh/config",
            why=str(error),
            next=f"See how ssh itself reads it: ssh -G {quote(alias)}",
        ) from error


def read_options(alias: str, user: str | None, port: int | None, files: Sequence[ConfigFile]) -> HostOptions:
    """The options of a host, in the words of the configuration; ``host`` is its final name.

    Raises:
        ConfigError, UnreachableError, ValueError: as ``find``.
    """
    context = HostOptions(alias, alias)
    if user is not None:
        context.values["user"] = (user,)
    if port is not None:
        context.values["port"] = (str(port),)
    Reader(context).read(list(files))
    context.host = canonical_name(context)
    again = context.wants_final or (context.first("canonicalizehostname") or "no") != "no"
    context.final = True
    context.values["hostname"] = (context.host,)
    if again:
        Reader(context).read(list(files))
    check_host(context.host)
    if alias_of_key := context.first("hostkeyalias"):
        context.values["hostkeyalias"] = (alias_of_key.lower(),)
    if user is None and (named := context.first("user")):
        context.values["user"] = (expand(named, context.tokens(alias=alias), environment=True),)
    return context


def _endpoint(context: HostOptions, *, direct: bool) -> Endpoint:
    tokens = context.tokens(alias=context.asked)
    port = int(tokens["p"])
    key_alias = context.first("hostkeyalias")
    named = context.values.get("identityfile", ())
    refuse(context)
    return Endpoint(
        alias=context.asked,
        host=context.host,
        port=port,
        user=context.user(),
        identity_files=_paths(named, tokens)
        if named
        else tuple(ssh_dir() / name for name in _DEFAULT_IDENTITIES),
        identities_only=context.first("identitiesonly") == "yes",
        identities_named=bool(named),
        certificate_files=_paths(context.values.get("certificatefile", ()), tokens),
        agent=_agent(context.first("identityagent"), tokens),
        public_keys=context.first("pubkeyauthentication") != "no",
        user_known_hosts=_paths(
            context.values.get("userknownhostsfile", ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")), tokens
        ),
        global_known_hosts=tuple(
            Path(expand_home(name))
            for name in context.values.get(
                "globalknownhostsfile",
                (f"{SYSTEM_FOLDER}/ssh_known_hosts", f"{SYSTEM_FOLDER}/ssh_known_hosts2"),
            )
            if name.lower() != "none"
        ),
        revoked_host_keys=_paths(context.values.get("revokedhostkeys", ()), tokens),
        hash_known_hosts=context.first("hashknownhosts") == "yes",
        host_key_algorithms=context.first("hostkeyalgorithms"),
        ca_algorithms=context.first("casignaturealgorithms"),
        key_name=key_alias or _key_name(context.host, port),
        certified_name=key_alias or context.host,
        timeout=_timeout(context.first("connecttimeout")),
        family=family(context),
        bind_address=context.first("bindaddress"),
        proxy_command=_proxy_command(context, tokens) if direct else None,
    )


def refuse(context: HostOptions) -> None:
    """Refuse what edgepack cannot do and must not leave out.

    Raises:
        UsageError: the configuration asks for it.
    """
    needs = {
        "knownhostscommand": "put the keys into UserKnownHostsFile, or pin host_key in devices.yaml",
        "bindinterface": "use BindAddress with the interface's address",
        "proxyusefdpass": "use a ProxyCommand that passes data on by itself, such as nc %h %p",
    }
    if (context.first("proxycommand") or "none").lower() == "none":
        del needs["proxyusefdpass"]
    for option, step in needs.items():
        if (context.first(option) or "none").lower() not in ("none", "no"):
            raise UsageError(
                f"edgepack does not support {option}",
                where="~/.ssh/config",
                why=f"it is set for {context.asked}",
                next=f"{step}; a block `Match host {context.asked}` before it can set it to none",
            )


def _hops(context: HostOptions) -> list[Hop]:
    spec = context.first("proxyjump") or "none"
    if spec.lower() == "none":
        return []
    tokens = context.tokens(alias=context.asked)
    return [
        split_hop(expand(item.strip(), {name: tokens[name] for name in "hknpr"})) for item in spec.split(",")
    ]


def _jumps(hops: list[Hop], files: Sequence[ConfigFile], seen: tuple[str, ...]) -> tuple[Endpoint, ...]:
    """The endpoints of ProxyJump, preceded by the jump hosts' own ProxyJump."""
    found: list[Endpoint] = []
    for index, (user, host, port) in enumerate(hops):
        hop = find(host, user, port, files, seen)
        # Only the first hop is reached in its own way; the others through the previous hop.
        found += [*(hop.jumps if index == 0 else ()), replace(hop, jumps=())]
    return tuple(found)


def _proxy_command(context: HostOptions, tokens: dict[str, str]) -> str | None:
    template = context.first("proxycommand") or "none"
    if template.lower() == "none":
        return None
    if template == "-":
        raise ValueError("ProxyCommand - (a connection on standard input) has no meaning here")
    names = {"host": "h", "alias": "n", "host key alias": "k", "user": "r"}
    used = {
        what: tokens[letter] for what, letter in names.items() if f"%{letter}" in template.replace("%%", "")
    }
    check_for_shell(used, "ProxyCommand")
    return expand(template, {name: tokens[name] for name in "hknpr"})


def _agent(setting: str | None, tokens: dict[str, str]) -> Path | None:
    """The socket that IdentityAgent means; without it, that of SSH_AUTH_SOCK."""
    variable = os.environ.get("SSH_AUTH_SOCK")
    if setting is not None:
        # ssh replaces tokens first, and looks at the result.
        setting = expand(expand_home(setting), tokens, environment=True)
    if setting is None or setting == "SSH_AUTH_SOCK":
        value = variable
    elif setting == "none":
        value = None
    else:
        value = os.environ.get(setting[1:]) if setting.startswith("$") else setting
    return Path(value) if value else None


def _shown(name: str) -> str:
    """A name for a message: on one line, of some length."""
    name = name if name.isprintable() else ascii(name)[1:-1]
    return name if len(name) <= _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}…"


def _timeout(value: str | None) -> float | None:
    if value is None:
        return CONNECT_TIMEOUT_S
    return float(value) or None


def _paths(names: Sequence[str], tokens: dict[str, str]) -> tuple[Path, ...]:
    return tuple(expand_path(name, tokens) for name in names if name.lower() != "none")


def _key_name(host: str, port: int) -> str:
    return host if port == SSH_PORT else f"[{host}]:{port}"
