"""Authentication with identity files and ssh-agent, and an error that lists what was tried."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.errors import UnreachableError
from edgepack.remote.hostkeys import HostKey
from edgepack.remote.sshconfig import Endpoint

if TYPE_CHECKING:
    from paramiko import PKey, Transport


def authenticate(transport: "Transport", hop: Endpoint, name: str) -> None:
    """Try authentication with none, identity files and the agent's keys, in this order, like ssh."""
    import paramiko

    tried: list[str] = []
    accepted = ["publickey"]
    try:
        transport.auth_none(hop.user)
    except paramiko.BadAuthenticationType as error:
        accepted = error.allowed_types
    except (paramiko.SSHException, EOFError, OSError) as error:
        tried.append(str(error))
    if not transport.is_authenticated() and "publickey" in accepted:
        for label, key in _keys(hop, tried):
            if not transport.is_active():
                tried.append("the server closed the connection (too many keys offered: set identity_file)")
                break
            try:
                transport.auth_publickey(hop.user, key)
            except (paramiko.SSHException, EOFError, OSError) as error:
                tried.append(f"{label}: {str(error).rstrip('.').lower() or 'connection closed'}")
            if transport.is_authenticated():
                break
    if transport.is_authenticated():
        return
    if "publickey" not in accepted:
        tried.append(f"the server accepts only {' or '.join(accepted)}; edgepack supports keys only")
    raise UnreachableError(
        f"{hop} rejected the login of {hop.user}",
        where=name,
        why="; ".join(tried) or "there is no key to offer: no identity file, and none in ssh-agent",
        next=f"install a key: ssh-copy-id -p {hop.port} {hop.user}@{hop.host}",
    )


def _keys(hop: Endpoint, tried: list[str]) -> "Iterator[tuple[str, PKey]]":
    """Private keys to offer, with a label for messages; unusable files are added to ``tried``."""
    for path in hop.identity_files:
        if key := _load(path, tried, named=hop.identities_only):
            yield str(path), key
    if hop.use_agent and os.environ.get("SSH_AUTH_SOCK"):
        yield from _agent_keys(hop)


def _load(path: Path, tried: list[str], *, named: bool) -> "PKey | None":
    import paramiko

    if not path.exists():
        if named:  # explicitly configured; the default files are optional
            tried.append(f"{path}: no such file")
        return None
    try:
        return paramiko.PKey.from_path(path)
    except (paramiko.PasswordRequiredException, TypeError):  # TypeError: cryptography needs a passphrase
        tried.append(f"{path}: encrypted (ssh-add it to the agent)")
    except (paramiko.SSHException, ValueError, OSError) as error:
        tried.append(f"{path}: {error}")
    return None


def _agent_keys(hop: Endpoint) -> "Iterator[tuple[str, PKey]]":
    import paramiko

    agent = paramiko.Agent()
    try:
        named = [blob for path in hop.identity_files if (blob := _public_half(path))]
        for key in agent.get_keys():
            if not hop.identities_only or key.asbytes() in named:
                yield f"ssh-agent {key.get_name()}", key
    finally:
        agent.close()


def _public_half(path: Path) -> bytes | None:
    """The blob of the public key beside a private key, to find that key in the agent."""
    try:
        return HostKey.parse(Path(f"{path}.pub").read_text(encoding="utf-8")).blob
    except (OSError, ValueError):
        return None
