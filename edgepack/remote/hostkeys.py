"""Host keys: verification of a server's key, and adding keys to known_hosts.

No key is accepted automatically. The files are those of OpenSSH, sshd(8) "SSH_KNOWN_HOSTS
FILE FORMAT": hashed names, ``[host]:port``, wildcards, ``!negation`` and ``@revoked`` are understood.
``@cert-authority`` lines are ignored, since paramiko does not support host certificates.
"""

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path

from edgepack.errors import TrustError
from edgepack.remote.sshconfig import SSH_PORT, Endpoint


@dataclass(frozen=True)
class HostKey:
    """A public host key: its type (``ssh-ed25519``) and its blob in the SSH wire format."""

    type: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """``SHA256:…``, as OpenSSH prints it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")
        return f"SHA256:{digest}"

    def __str__(self) -> str:
        return f"{self.type} {base64.b64encode(self.blob).decode()}"

    @classmethod
    def parse(cls, text: str) -> "HostKey":
        """A key from ``ssh-ed25519 AAAA… [comment]``; raises ValueError if it is invalid."""
        words = text.split()
        if len(words) < 2:  # noqa: PLR2004 - type and blob
            raise ValueError("a host key is a type and a base64 blob: ssh-ed25519 AAAA…")
        try:
            blob = base64.b64decode(words[1], validate=True)
        except binascii.Error as error:
            raise ValueError(f"the blob of the host key is not base64: {error}") from error
        size = int.from_bytes(blob[:4], "big")
        if blob[4 : 4 + size] != words[0].encode():
            raise ValueError(f"the blob of the host key is not one of type {words[0]}")
        return cls(words[0], blob)


@dataclass(frozen=True)
class Entry:
    """One line of a known_hosts file."""

    patterns: tuple[str, ...]
    key: HostKey
    revoked: bool
    source: str  # file:line

    def matches(self, name: str) -> bool:
        """Whether the line applies to the server ``name``."""
        found = False
        for pattern in self.patterns:
            if pattern.startswith("|1|"):
                found = found or _hash_matches(pattern, name)
            elif pattern.startswith("!") and fnmatchcase(name.lower(), _glob(pattern[1:])):
                return False
            else:
                found = found or fnmatchcase(name.lower(), _glob(pattern))
        return found


class KeyVerdict(Enum):
    """The result of checking a server's key against the known ones."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


def read(files: Iterable[Path]) -> list[Entry]:
    """All valid lines of known_hosts files; unreadable files are ignored, as by ssh."""
    entries = []
    for path in files:
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for number, line in enumerate(lines, 1):
            words = line.split()
            marker = words.pop(0) if words and words[0].startswith("@") else ""
            if len(words) < 3 or words[0].startswith("#") or marker == "@cert-authority":  # noqa: PLR2004 - names, type, blob
                continue
            try:
                key = HostKey.parse(" ".join(words[1:3]))
            except ValueError:
                continue  # damaged lines are ignored
            entries.append(Entry(tuple(words[0].split(",")), key, marker == "@revoked", f"{path}:{number}"))
    return entries


class Keyring:
    """The keys accepted for an endpoint: the pinned one only, or those in known_hosts."""

    def __init__(
        self, endpoint: Endpoint, *, device: str, pinned: str | None = None, jump: bool = False
    ) -> None:
        """``device`` is the device's name, ``pinned`` its ``host_key``; ``jump`` is True for a jump host.

        Raises:
            TrustError: ``pinned`` is not a host key.
        """
        self.endpoint = endpoint
        self.device = device
        self.jump = jump
        self.pinned: HostKey | None = None
        self._plain: list[Entry] = []
        if pinned is not None:
            try:
                self.pinned = HostKey.parse(pinned)
            except ValueError as error:
                raise TrustError(
                    "the pinned host_key cannot be read",
                    where=device,
                    why=str(error),
                    next="Copy the first two words of /etc/ssh/ssh_host_ed25519_key.pub on the board.",
                ) from error
        self.entries = [] if self.pinned else self._known()

    def _known(self) -> list[Entry]:
        entries = read((*self.endpoint.user_known_hosts, *self.endpoint.global_known_hosts))
        found = [entry for entry in entries if entry.matches(self.endpoint.key_name)]
        # Like ssh: a server on another port may be known by its plain name. Such a line can only confirm
        # a key; a different key is not a change, since the port may belong to another machine.
        self._plain = [
            entry
            for entry in entries
            if not found and self.endpoint.port != SSH_PORT and entry.matches(self.endpoint.host)
        ]
        return found

    def key_types(self) -> list[str]:
        """Preferred key types, so that the server sends a key that can be compared."""
        if self.pinned:
            return [self.pinned.type]
        entries = self.entries or self._plain
        return list(dict.fromkeys(entry.key.type for entry in entries if not entry.revoked))

    def judge(self, key: HostKey) -> KeyVerdict:
        """The verdict on the key that the server sent."""
        if self.pinned:
            return KeyVerdict.KNOWN if key == self.pinned else KeyVerdict.CHANGED
        if any(entry.key == key and entry.revoked for entry in (*self.entries, *self._plain)):
            return KeyVerdict.REVOKED
        if any(entry.key == key for entry in (*self.entries, *self._plain)):
            return KeyVerdict.KNOWN
        return KeyVerdict.CHANGED if any(not entry.revoked for entry in self.entries) else KeyVerdict.UNKNOWN

    def check(self, key: HostKey) -> None:
        """Return if the server is trusted.

        Raises:
            TrustError: The key is unknown, changed or revoked.
        """
        verdict = self.judge(key)
        if verdict is KeyVerdict.UNKNOWN:
            raise self._unknown(key)
        if verdict is not KeyVerdict.KNOWN:
            raise self.refusal(key, verdict)

    def _unknown(self, key: HostKey) -> TrustError:
        files = self.endpoint.user_known_hosts
        trust = f"edgepack devices trust {self.device}"
        if self.jump:
            trust = f"ssh {self.endpoint.alias}   (it is a jump host: accept its key there, once)"
        return TrustError(
            f"the host key of {self.endpoint} is unknown: {key.type} {key.fingerprint}",
            where=self.device,
            why=f"{files[0]} has no line for {self.endpoint.key_name}"
            if files
            else "UserKnownHostsFile is none and no host_key is pinned",
            state="nothing was sent to the device",
            next="compare the fingerprint with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` "
            f"on the board, then: {trust}",
        )

    def refusal(self, key: HostKey, verdict: KeyVerdict) -> TrustError:
        """The error for a key that was changed or revoked."""
        known = ", ".join(
            [f"{entry.key.type} {entry.key.fingerprint} ({entry.source})" for entry in self.entries]
            or ([f"{self.pinned.type} {self.pinned.fingerprint} (pinned)"] if self.pinned else [])
        )
        if self.pinned:
            forget = f"remove or correct host_key of {self.device} in devices.yaml"
        else:
            forget = f"ssh-keygen -R '{self.endpoint.key_name}' && edgepack devices trust {self.device}"
        return TrustError(
            f"THE HOST KEY OF {self.endpoint} HAS BEEN {verdict.name}: the server sent {key.type} {key.fingerprint}",
            where=self.device,
            why=f"known: {known}. Either the board was reinstalled, or another machine is impersonating it",
            state="nothing was sent to the device; no known key was changed",
            next=f"find out which. Only if the board was reinstalled: {forget}",
        )


def remember(endpoint: Endpoint, key: HostKey) -> Path:
    """Append a key to the user's known_hosts and return that file; existing lines are not changed.

    Raises:
        TrustError: The file cannot be written, or none is configured.
    """
    if not endpoint.user_known_hosts:
        raise TrustError(
            "there is no known_hosts file to write to",
            where=endpoint.alias,
            why="UserKnownHostsFile is none",
            next="Pin the key instead: host_key in devices.yaml.",
        )
    path = endpoint.user_known_hosts[0]
    name = _hashed(endpoint.key_name) if endpoint.hash_known_hosts else endpoint.key_name
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # One write in append mode, safe with a concurrent ssh.
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, f"{chr(10) if torn else ''}{name} {key}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise TrustError(
            f"cannot write {path}",
            where=endpoint.alias,
            why=str(error),
            next="Pin the key instead: host_key in devices.yaml.",
        ) from error
    return path


def _glob(pattern: str) -> str:
    """known_hosts supports ``*`` and ``?`` only; the brackets of ``[host]:port`` are literal."""
    return pattern.lower().replace("[", "[[]")


def _hash_matches(pattern: str, name: str) -> bool:
    try:
        _, _, salt, digest = pattern.split("|")
        expected = base64.b64decode(digest)
        actual = hmac.digest(base64.b64decode(salt), name.encode(), "sha1")
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(expected, actual)


def _hashed(name: str) -> str:
    salt = os.urandom(20)
    digest = hmac.digest(salt, name.encode(), "sha1")
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
