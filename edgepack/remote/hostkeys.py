"""Host keys: verification of a server's key, and adding keys to known_hosts.

No key is accepted automatically, whatever StrictHostKeyChecking says. The files are those of OpenSSH, sshd(8)
"SSH_KNOWN_HOSTS FILE FORMAT": hashed names, ``[host]:port``, wildcards, ``!negation``, ``@revoked`` and
``@cert-authority`` are understood.
"""

import re
import shlex
from enum import Enum
from pathlib import Path

from edgepack.errors import TrustError
from edgepack.remote import knownhosts
from edgepack.remote.knownhosts import Marker
from edgepack.remote.publickey import CERTIFIED, Certificate, HostKey
from edgepack.remote.revoked import revoking_file
from edgepack.remote.sshconfig import SSH_PORT, Endpoint

_PATTERN = re.compile(r"[\s,*?!#@|'\"\\]")


class KeyVerdict(Enum):
    """The result of checking a server's key against the known ones."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


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
        # Like ssh: a server on another port may be known by its plain name. Such a line can only confirm or revoke
        # a key; a different key is not a change, since the port may belong to another machine.
        own, plain = endpoint.key_name.lower(), endpoint.host.lower()
        names = (
            {own}
            if endpoint.port == SSH_PORT or endpoint.key_name == endpoint.certified_name
            else {own, plain}
        )
        files = (*endpoint.user_known_hosts, *endpoint.global_known_hosts)
        lines, self.faults = knownhosts.read(files, names)
        self.revoked = [entry for entry in lines if entry.marker is Marker.REVOKED]
        known = [entry for entry in lines if entry.marker is not Marker.REVOKED and own not in entry.denied]
        named = [entry for entry in known if own in entry.names]
        self.entries = [entry for entry in named if entry.marker is Marker.NONE]
        others = known if not self.entries else named
        self.authorities = [entry for entry in others if entry.marker is Marker.AUTHORITY]
        self._plain = [entry for entry in others if entry.marker is Marker.NONE and entry not in self.entries]

    def preferred(self, algorithms: list[str]) -> list[str]:
        """Host key algorithms with those first for which there is a key to compare, as ssh orders them.

        Certificates are asked for only if an authority is known for the host.
        """
        if self.pinned:
            types = [self.pinned.type]
        else:
            types = [entry.key.type for entry in (self.entries or self._plain)]
        wanted = {name for kind in types for name in _algorithms_of(kind)}
        plain = [name for name in algorithms if not name.endswith(CERTIFIED)]
        certified = [name for name in algorithms if name.endswith(CERTIFIED)]
        first = certified if self.authorities and not self.pinned else []
        return [*first, *sorted(plain, key=lambda name: name not in wanted)]

    def judge(self, key: HostKey) -> KeyVerdict:
        """The verdict on the key that the server sent; a certificate counts as the key in it if its authority is known.

        Raises:
            TrustError: a file of revoked keys cannot be read.
        """
        if self.revoking(key):
            return KeyVerdict.REVOKED
        if self.certificate_fault(key) is None:
            return KeyVerdict.KNOWN
        plain = plain_key(key)
        if self.pinned:
            return KeyVerdict.KNOWN if plain == self.pinned else KeyVerdict.CHANGED
        if any(entry.key == plain for entry in (*self.entries, *self._plain)):
            return KeyVerdict.KNOWN
        return KeyVerdict.CHANGED if self.entries else KeyVerdict.UNKNOWN

    def revoking(self, key: HostKey) -> str | None:
        """What revokes a key, or the authority of a certificate: a line of known_hosts or a file; None if nothing does."""
        try:
            parts = [key, *_parts(Certificate.parse(key))] if key.certified else [key]
        except ValueError:
            parts = [key]
        for entry in self.revoked:
            if entry.key in parts:
                return entry.source
        path = revoking_file(self.endpoint.revoked_host_keys, parts, self.device)
        return str(path) if path else None

    def certificate_fault(self, key: HostKey) -> str | None:
        """Why a key does not prove the host as a certificate; None if it does."""
        if not key.certified:
            return "it is not a certificate"
        try:
            certificate = Certificate.parse(key)
        except ValueError as error:
            return f"the certificate cannot be read: {error}"
        if self.pinned or all(entry.key != certificate.authority for entry in self.authorities):
            return f"its authority {certificate.authority.fingerprint} is not one of {self.endpoint.key_name}"
        return certificate.fault_for(self.endpoint.certified_name, self.endpoint.ca_algorithms)

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
        trust = f"edgepack devices trust {shlex.quote(self.device)}"
        if self.jump:
            trust = (
                f"ssh {shlex.quote(self.endpoint.alias)}   (it is a jump host: accept its key there, once)"
            )
        reasons = [
            f"{files[0]} has no line for {self.endpoint.key_name}"
            if files
            else "UserKnownHostsFile is none and no host_key is pinned"
        ]
        if key.certified:
            reasons.append(f"its certificate does not count: {self.certificate_fault(key)}")
        elif self.authorities:
            reasons.append(
                f"{self.authorities[0].source} names a @cert-authority, but the server has no certificate"
            )
        plain = plain_key(key)
        return TrustError(
            f"the host key of {self.endpoint} is unknown: {plain.type} {plain.fingerprint}",
            where=self.device,
            why="; ".join([*reasons, *self.faults]),
            state="nothing was sent to the device",
            next="compare the fingerprint with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` "
            f"on the board, then: {trust}",
        )

    def refusal(self, key: HostKey, verdict: KeyVerdict) -> TrustError:
        """The error for a key that was changed or revoked."""
        key = plain_key(key) if verdict is KeyVerdict.CHANGED else key
        if verdict is KeyVerdict.REVOKED:
            return TrustError(
                f"THE HOST KEY OF {self.endpoint} IS REVOKED: {key.type} {key.fingerprint}",
                where=self.device,
                why=f"{self.revoking(key)} revokes it. Someone who stole it may be impersonating the board",
                state="nothing was sent to the device; no known key was changed",
                next="give the board a new host key (ssh-keygen -A after removing /etc/ssh/ssh_host_*), "
                f"then: edgepack devices trust {shlex.quote(self.device)}",
            )
        known = ", ".join(
            [f"{entry.key.type} {entry.key.fingerprint} ({entry.source})" for entry in self.entries]
            or ([f"{self.pinned.type} {self.pinned.fingerprint} (pinned)"] if self.pinned else [])
        )
        if self.pinned:
            forget = f"remove or correct host_key of {self.device} in devices.yaml"
        else:
            name = shlex.quote(self.endpoint.key_name)
            forget = f"ssh-keygen -R {name} && edgepack devices trust {shlex.quote(self.device)}"
        return TrustError(
            f"THE HOST KEY OF {self.endpoint} HAS BEEN CHANGED: the server sent {key.type} {key.fingerprint}",
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
    if _PATTERN.search(endpoint.key_name):
        raise TrustError(
            f"no line can be added to {path} for {endpoint.key_name!r}",
            where=endpoint.alias,
            why="the name has a character that means more than itself there, so the line would be about other hosts",
            next="correct HostKeyAlias in ~/.ssh/config, or pin the key: host_key in devices.yaml",
        )
    try:
        knownhosts.append(path, endpoint.key_name, plain_key(key), hashed=endpoint.hash_known_hosts)
    except OSError as error:
        raise TrustError(
            f"cannot write {path}",
            where=endpoint.alias,
            why=str(error),
            next="Pin the key instead: host_key in devices.yaml.",
        ) from error
    return path


def plain_key(key: HostKey) -> HostKey:
    """The key in a certificate; any other key as it is."""
    try:
        return Certificate.parse(key).public if key.certified else key
    except ValueError:
        return key


def _parts(certificate: Certificate) -> tuple[HostKey, HostKey]:
    return certificate.public, certificate.authority


def _algorithms_of(kind: str) -> tuple[str, ...]:
    # An RSA key signs with SHA-2 today.
    return ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)
