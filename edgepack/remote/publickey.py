"""Public keys and certificates of OpenSSH, as its files and its wire format have them (PROTOCOL.certkeys)."""

import base64
import binascii
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from edgepack.remote.sshconfig.words import in_list, matches

CERTIFIED = "-cert-v01@openssh.com"  # the end of the names of certificates' types
# The parts of a public key after its type.
_PARTS = {
    "ssh-ed25519": 1,
    "ssh-rsa": 2,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
}
# The signatures of certificate authorities that are accepted: ssh's, without those that need a security key's data.
_CA_ALGORITHMS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)


@dataclass(frozen=True)
class HostKey:
    """A public key: its type (``ssh-ed25519``) and its blob in the SSH wire format."""

    type: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """``SHA256:…``, as OpenSSH prints it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")
        return f"SHA256:{digest}"

    @property
    def certified(self) -> bool:
        """Whether it is a certificate."""
        return self.type.endswith(CERTIFIED)

    def __str__(self) -> str:
        return f"{self.type} {base64.b64encode(self.blob).decode()}"

    @classmethod
    def parse(cls, text: str) -> "HostKey":
        """A key from ``ssh-ed25519 AAAA… [comment]``; raises ValueError if it is invalid."""
        words = text.split(None, 2)
        if len(words) < 2:  # noqa: PLR2004 - type and blob
            raise ValueError("a host key is a type and a base64 blob: ssh-ed25519 AAAA…")
        try:
            blob = base64.b64decode(words[1], validate=True)
        except (binascii.Error, ValueError) as error:  # ValueError: not ASCII
            raise ValueError(f"the blob of the host key is not base64: {error}") from error
        size = int.from_bytes(blob[:4], "big")
        if blob[4 : 4 + size] != words[0].encode(errors="replace"):
            raise ValueError(f"the blob of the host key is not one of type {words[0]}")
        return cls(words[0], blob)

    @classmethod
    def from_blob(cls, blob: bytes) -> "HostKey":
        """A key from its wire format; raises ValueError if it does not begin with a type."""
        return cls(Fields(blob).text(), blob)


class Fields:
    """Reads the fields of the wire format (RFC 4251, 5) in order. All methods raise ValueError at the end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        if size > len(self.data) - self.at:
            raise ValueError("the data ends within a field")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        """An unsigned number of ``size`` bytes."""
        return int.from_bytes(self.take(size), "big")

    def string(self) -> bytes:
        """A string: its length, then its bytes."""
        return self.take(self.number(4))

    def text(self) -> str:
        """A string of UTF-8."""
        return self.string().decode()

    def all_texts(self) -> tuple[str, ...]:
        """All strings to the end."""
        found = []
        while self.at < len(self.data):
            found.append(self.text())
        return tuple(found)


class CertificateKind(IntEnum):
    """Whom a certificate is for."""

    USER = 1
    HOST = 2


@dataclass(frozen=True)
class Certificate:
    """An OpenSSH certificate: a public key with names, signed by an authority."""

    public: HostKey
    kind: int
    principals: tuple[str, ...]
    valid_after: int  # seconds since 1970
    valid_before: int  # seconds since 1970, excluded
    critical_options: bytes
    authority: HostKey
    signature: bytes
    signed: bytes  # what the signature is of

    @classmethod
    def parse(cls, key: HostKey) -> "Certificate":
        """The contents of a key whose type is that of a certificate.

        Raises:
            ValueError: it is none, or its fields cannot be read.
        """
        plain = key.type.removesuffix(CERTIFIED)
        if not key.certified or plain not in _PARTS:
            raise ValueError(f"{key.type} is not a type of certificate that edgepack reads")
        fields = Fields(key.blob)
        fields.string()  # the type
        fields.string()  # a nonce
        start = fields.at
        for _ in range(_PARTS[plain]):
            fields.string()
        public = HostKey(plain, len(plain).to_bytes(4, "big") + plain.encode() + key.blob[start : fields.at])
        fields.number(8)  # serial
        kind = fields.number(4)
        fields.string()  # the authority's name for it
        principals = Fields(fields.string()).all_texts()
        after, before = fields.number(8), fields.number(8)
        critical = fields.string()
        fields.string()  # extensions
        fields.string()  # reserved
        authority = HostKey.from_blob(fields.string())
        signed = key.blob[: fields.at]
        signature = fields.string()
        if fields.at != len(key.blob):
            raise ValueError("there is more data after the certificate's signature")
        return cls(public, kind, principals, after, before, critical, authority, signature, signed)

    def fault_for(self, host: str, algorithms: str | None) -> str | None:
        """Why it does not certify ``host``; None if it does. Whether its authority is trusted is not asked here.

        ``algorithms`` is ssh_config's CASignatureAlgorithms.
        """
        now = time.time()
        if self.kind != CertificateKind.HOST:
            return "it is not a host's certificate"
        if now < self.valid_after:
            return f"it is valid only from {_date(self.valid_after)} on"
        if now >= self.valid_before:
            return f"it expired on {_date(self.valid_before)}"
        if not any(matches(host, principal) for principal in self.principals):
            return f"it is for {', '.join(self.principals) or 'no host'}, not for {host}"
        if self.critical_options:
            return "it has a critical option that is not known"
        return self._fault_of_signature(algorithms)

    def _fault_of_signature(self, algorithms: str | None) -> str | None:
        import paramiko

        try:
            algorithm = Fields(self.signature).text()
            if algorithm not in chosen(algorithms, _CA_ALGORITHMS):
                return f"CASignatureAlgorithms does not allow its signature, {algorithm}"
            if self.authority.type not in _PARTS:
                return f"its authority's key has the type {self.authority.type}"
            key = paramiko.PKey.from_type_string(self.authority.type, self.authority.blob)
            genuine = key.verify_ssh_sig(self.signed, paramiko.Message(self.signature))
        except (ValueError, TypeError, OverflowError, paramiko.SSHException) as error:
            return f"its signature cannot be checked: {error}"
        return None if genuine else "its signature is wrong"


def chosen(wanted: str | None, usual: Sequence[str], known: Sequence[str] | None = None) -> list[str]:
    """The algorithms that a list of ssh_config means: a list, or a change of the usual one by ``+``, ``-`` or ``^``.

    ``known`` are all that may be chosen, by default the usual ones; others are left out.
    """
    known = usual if known is None else known
    if wanted is None:
        return list(usual)
    sign = wanted[:1] if wanted[:1] in "+-^" else ""
    patterns = wanted[len(sign) :].split(",")
    named = [name for pattern in patterns for name in known if matches(name, pattern)]
    if sign == "-":
        return [name for name in usual if not in_list(name, patterns)]
    order = {"": named, "+": [*usual, *named], "^": [*named, *usual]}[sign]
    return list(dict.fromkeys(order))


def _date(seconds: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):  # certificates may be valid for billions of years
        return f"second {seconds}"
