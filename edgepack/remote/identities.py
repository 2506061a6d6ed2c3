"""The keys to log in with, in the order in which they are offered.

As with ssh, a file may be a private key, or a public key (``X`` or ``X.pub``) whose private half is in the agent; and
a certificate (CertificateFile, or ``X-cert.pub``) is offered before its key.
"""

import base64
import binascii
import io
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.remote.publickey import Certificate, Fields, HostKey
from edgepack.remote.sshconfig import Endpoint
from edgepack.remote.sshconfig.files import read_regular

if TYPE_CHECKING:
    from paramiko import PKey

    from edgepack.remote.agentkeys import HeldKey

_LIMIT = 1 << 20  # bytes of a key file
_OPENSSH = re.compile(
    rb"-----BEGIN OPENSSH PRIVATE KEY-----(.*?)-----END OPENSSH PRIVATE KEY-----", re.DOTALL
)
_MAGIC = b"openssh-key-v1\0"

Offer = tuple[str, "PKey"]  # a name for messages, and the key


@dataclass(frozen=True)
class _Named:
    """An identity file: its public half, if it can be read, and its private half, if it is there and not encrypted."""

    path: Path
    public: HostKey | None
    private: "PKey | None"


def identities(hop: Endpoint, tried: list[str], stack: ExitStack) -> Iterator[Offer]:
    """The keys to offer; why a file or the agent cannot be used is added to ``tried``.

    Args:
        hop: whom they are offered to.
        tried: reasons for the message if no key is accepted.
        stack: closes the connection with the agent.
    """
    if not hop.public_keys:
        tried.append("PubkeyAuthentication is no in the SSH configuration")
        return
    in_agent = _of_agent(hop, tried, stack)
    files = [_read(path, in_agent, tried, required=hop.identities_named) for path in hop.identity_files]
    yield from _certified(hop, files, in_agent, tried)
    left = {blob: key for blob, key in in_agent.items() if all(blob != _blob(file) for file in files)}
    for file in files:
        if key := in_agent.get(_blob(file)):
            yield f"{file.path} (in ssh-agent)", key
    own = [(str(file.path), file.private) for file in files if file.private and _blob(file) not in in_agent]
    # Files that were named come before the agent's other keys, since a server takes only a few attempts.
    if hop.identities_named:
        yield from own
    if not hop.identities_only:
        for key in left.values():
            yield f"ssh-agent {key.get_name()} {key.comment}".rstrip(), key
    if not hop.identities_named:
        yield from own


def _of_agent(hop: Endpoint, tried: list[str], stack: ExitStack) -> "dict[bytes, HeldKey]":
    """The agent's keys by their blobs."""
    if hop.agent is None:
        return {}
    import paramiko

    from edgepack.remote.agentkeys import agent_keys

    try:
        keys = stack.enter_context(agent_keys(hop.agent))
    except TimeoutError:
        tried.append(f"ssh-agent {hop.agent}: it does not answer")
        return {}
    except (OSError, ValueError, paramiko.SSHException) as error:
        tried.append(f"ssh-agent {hop.agent}: {getattr(error, 'strerror', None) or error}")
        return {}
    return {bytes(key.blob): key for key in keys}


def _read(path: Path, in_agent: "dict[bytes, HeldKey]", tried: list[str], *, required: bool) -> _Named:
    from cryptography.exceptions import UnsupportedAlgorithm

    public = _public_half(path)
    held = public is not None and public.blob in in_agent
    reason = ""
    try:
        data = read_regular(path, _LIMIT)
        if public is None or _is_private(data):
            private = _private_key(data)
            return _Named(path, HostKey(private.get_name(), private.asbytes()), private)
        reason = "a public key, whose private half is not in ssh-agent (ssh-add it)"
    except FileNotFoundError:
        reason = "no such file" if required else ""
    except OSError as error:
        reason = error.strerror or str(error)
    except TypeError:  # a passphrase is needed
        reason = "encrypted (ssh-add it to the agent)"
    except UnsupportedAlgorithm:
        reason = "of a kind that cannot be read; ssh-add it to the agent, as for the key of a hardware token"
    except ValueError:
        reason = "not a private key, or damaged"
    if reason and not held:
        tried.append(f"{path}: {reason}")
    return _Named(path, public, None)


def _private_key(data: bytes) -> "PKey":
    """A private key from a file's contents.

    Raises:
        TypeError: it is encrypted.
        ValueError, UnsupportedAlgorithm: it is damaged, or of a kind that cannot be used.
    """
    import paramiko
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    # paramiko's own parser knows fewer formats, and fails in its own ways on damaged files.
    openssh = b"BEGIN OPENSSH" in data
    load = serialization.load_ssh_private_key if openssh else serialization.load_pem_private_key
    key = load(data, password=None)
    kinds: dict[type, type[PKey]] = {
        rsa.RSAPrivateKey: paramiko.RSAKey,
        ec.EllipticCurvePrivateKey: paramiko.ECDSAKey,
        ed25519.Ed25519PrivateKey: paramiko.Ed25519Key,
    }
    for kind, made in kinds.items():
        if isinstance(key, kind):
            text = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
            )
            return made.from_private_key(io.StringIO(text.decode()))
    raise ValueError(f"a key of the kind {type(key).__name__}")


def _is_private(data: bytes) -> bool:
    return b"PRIVATE KEY-----" in data


def _public_half(path: Path) -> HostKey | None:
    """The public key in a file or beside it; that of a private key in OpenSSH's format is not encrypted."""
    for candidate in (path, Path(f"{path}.pub")):
        try:
            data = read_regular(candidate, _LIMIT)
        except OSError:
            continue
        try:
            if found := _OPENSSH.search(data):
                fields = Fields(base64.b64decode(found[1]).removeprefix(_MAGIC))
                for _ in range(3):  # cipher, key derivation, its options
                    fields.string()
                fields.number(4)  # how many keys there are: one
                return HostKey.from_blob(fields.string())
            return HostKey.parse(data.decode("utf-8", "replace"))
        except (ValueError, binascii.Error):
            continue
    return None


def _certified(
    hop: Endpoint, files: list[_Named], in_agent: "dict[bytes, HeldKey]", tried: list[str]
) -> Iterator[Offer]:
    """Keys with their certificates."""
    paths = hop.certificate_files or tuple(Path(f"{file.path}-cert.pub") for file in files)
    private = {_blob(file): file.private for file in files if file.private}
    for path in paths:
        try:
            text = read_regular(path, _LIMIT).decode("utf-8", "replace")
            certificate = HostKey.parse(text)
            public = Certificate.parse(certificate).public
        except FileNotFoundError as error:
            if hop.certificate_files:
                tried.append(f"{path}: {error.strerror}")
            continue
        except (OSError, ValueError) as error:
            tried.append(f"{path}: {getattr(error, 'strerror', None) or error}")
            continue
        key = in_agent.get(public.blob) or private.get(public.blob)
        if key is None:
            tried.append(f"{path}: its private key is in no identity file and not in ssh-agent")
            continue
        key.load_certificate(text)
        yield str(path), key
        key.public_blob = None  # next, the key is offered without it


def _blob(file: _Named) -> bytes:
    return file.public.blob if file.public else b""
