"""The lines of known_hosts files (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""

import base64
import binascii
import hmac
import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from edgepack.remote.publickey import HostKey
from edgepack.remote.sshconfig.files import open_regular
from edgepack.remote.sshconfig.words import in_list


class Marker(Enum):
    """What a line says of its key."""

    NONE = ""
    REVOKED = "@revoked"
    AUTHORITY = "@cert-authority"


@dataclass(frozen=True)
class Entry:
    """One line of a known_hosts file that is about a host that was asked for."""

    names: frozenset[str]  # those that were asked for and that it describes
    denied: frozenset[str]  # those that it excludes by "!"
    key: HostKey
    marker: Marker
    source: str  # file:line


def read(files: Iterable[Path], names: Iterable[str]) -> tuple[list[Entry], list[str]]:
    """The valid lines about hosts of these names, and why files could not be read; those that are missing are empty."""
    entries, faults = [], []
    lowered = {name.lower() for name in names}
    for path in files:
        try:
            with open_regular(path) as file:
                for number, line in enumerate(file, 1):
                    if entry := _entry(line, lowered, f"{path}:{number}"):
                        entries.append(entry)
        except FileNotFoundError:
            continue
        except OSError as error:
            faults.append(f"{path}: {error.strerror}")
    return entries, faults


def _entry(line: bytes, names: set[str], source: str) -> Entry | None:
    marker = Marker.NONE
    head, _, rest = line.lstrip().partition(b" ") if b"\t" not in line else _partition(line)
    if head.startswith(b"@"):
        try:
            marker = Marker(head.decode("ascii", "replace"))
        except ValueError:
            return None
        head, _, rest = _partition(rest)
    if head.startswith(b"#") or not rest:
        return None
    # Large files have a hundred thousand lines: the key is read only if the names are those asked for.
    patterns = head.decode("utf-8", "replace")
    found = _described(patterns, names)
    if not found:
        return None
    denied = _described(",".join(part[1:] for part in patterns.split(",") if part.startswith("!")), names)
    try:
        return Entry(found, denied, HostKey.parse(rest.decode("utf-8", "replace")), marker, source)
    except ValueError:
        return None  # damaged lines are ignored, as by ssh


def _partition(line: bytes) -> tuple[bytes, bytes, bytes]:
    words = line.split(None, 1)
    return words[0] if words else b"", b" ", words[1] if len(words) > 1 else b""


def _described(patterns: str, names: set[str]) -> frozenset[str]:
    if patterns.startswith("|"):
        return frozenset(name for name in names if _hash_matches(patterns, name))
    listed = patterns.lower().split(",")
    return frozenset(name for name in names if in_list(name, listed))


def append(path: Path, name: str, key: HostKey, *, hashed: bool) -> None:
    """Add a line to a file, which is made if it does not exist; the others are not changed.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # One write in append mode, safe with a concurrent ssh. O_NONBLOCK: a FIFO is refused, not waited for.
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, f"{chr(10) if torn else ''}{_hashed(name) if hashed else name} {key}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hash_matches(pattern: str, name: str) -> bool:
    try:
        _, kind, salt, digest = pattern.split("|")
        expected = base64.b64decode(digest)
        actual = hmac.digest(base64.b64decode(salt), name.encode(), "sha1")
    except (ValueError, binascii.Error):
        return False
    return kind == "1" and hmac.compare_digest(expected, actual)


def _hashed(name: str) -> str:
    salt = os.urandom(20)
    digest = hmac.digest(salt, name.encode(), "sha1")
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
