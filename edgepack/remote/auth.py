"""Authentication with identity files and ssh-agent, and an error that lists what was tried."""

import shlex
from contextlib import ExitStack
from typing import TYPE_CHECKING

from edgepack.errors import UnreachableError
from edgepack.remote.identities import identities
from edgepack.remote.sshconfig import Endpoint

if TYPE_CHECKING:
    from paramiko import PKey, Transport


def authenticate(transport: "Transport", hop: Endpoint, name: str) -> None:
    """Try authentication with none, identity files and the agent's keys.

    Raises:
        UnreachableError: the server accepts none of them.
    """
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
        with ExitStack() as stack:
            _offer_keys(transport, hop, tried, stack)
    if transport.is_authenticated():
        return
    if "publickey" not in accepted:
        tried.append(f"the server accepts only {' or '.join(accepted)}; edgepack supports keys only")
    raise UnreachableError(
        f"{hop} rejected the login",
        where=name,
        why="; ".join(tried) or "there is no key to offer: no identity file, and none in ssh-agent",
        next=f"install a key: {shlex.join(['ssh-copy-id', '-p', str(hop.port), f'{hop.user}@{hop.host}'])}",
    )


def _offer_keys(transport: "Transport", hop: Endpoint, tried: list[str], stack: ExitStack) -> None:
    import paramiko

    for label, key in identities(hop, tried, stack):
        if not transport.is_active():
            tried.append("the server closed the connection (too many keys offered: set identity_file)")
            return
        try:
            transport.auth_publickey(hop.user, key)
        except (paramiko.SSHException, EOFError, OSError) as error:
            failure = getattr(key, "failure", None)  # of the agent
            why = failure or str(error).rstrip(".").lower() or "connection closed"
            tried.append(f"{label}: {why}{_about_rsa(transport, key)}")
        if transport.is_authenticated():
            return


def _about_rsa(transport: "Transport", key: "PKey") -> str:
    """What to say of a refused RSA key, if the server may know no signature of it but SHA-1's."""
    extensions: dict[str, bytes] = getattr(transport, "server_extensions", {})  # RFC 8308
    accepted = extensions.get("server-sig-algs", b"").decode(errors="replace")
    if key.get_name() != "ssh-rsa" or "rsa-sha2-" in accepted:
        return ""
    sure = "accepts" if accepted else "may accept"
    return f" (the server {sure} only ssh-rsa signatures, with SHA-1, which edgepack refuses: use an Ed25519 key)"
