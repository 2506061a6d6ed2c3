"""The tar of a bundle: plain ustar, regular files only, every header field but name, mode and size fixed.

A strict reader of the one form that edgepack writes, instead of ``tarfile``, which accepts many more: links, device
nodes, sparse files, extended headers and other paths are rejected because the header is not byte for byte what
``header`` writes. GNU tar, bsdtar and busybox read the result.
"""

from dataclasses import dataclass

BLOCK = 512
END = bytes(2 * BLOCK)
MAX_SIZE = 8**11 - 1  # bytes: eleven octal digits

_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"5": "a directory",
    b"6": "a FIFO",
    b"L": "a GNU long name",
    b"K": "a GNU long link",
    b"S": "a sparse file",
    b"g": "a pax header",
    b"x": "a pax header",
}


@dataclass(frozen=True)
class Header:
    """The fields that differ between members. ``size`` is in bytes."""

    name: str
    size: int
    mode: int


def header(member: Header) -> bytes:
    """The 512-byte header of a regular file with uid 0, gid 0 and mtime 0 (POSIX.1-1988 ustar).

    Raises:
        ValueError: The name is longer than 100 bytes, or the size above 8 GiB.
    """
    name = member.name.encode("ascii")
    if not 0 < len(name) <= 100 or not 0 <= member.size <= MAX_SIZE:  # noqa: PLR2004 - ustar's name field
        raise ValueError(f"{member} does not fit a ustar header")
    zero = b"0000000\0"
    fields = (
        name.ljust(100, b"\0"),
        b"%07o\0" % member.mode,
        zero,  # uid
        zero,  # gid
        b"%011o\0" % member.size,
        b"%011o\0" % 0,  # mtime
        b" " * 8,  # checksum, summed as spaces
        b"0",  # a regular file
        bytes(100),  # link name
        b"ustar\x0000",
        bytes(64),  # user and group name
        zero,  # device major
        zero,  # device minor
        bytes(155 + 12),  # name prefix, padding
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def parse(block: bytes) -> Header:
    """Read a header back.

    Raises:
        ValueError: It is not a header that ``header`` writes; the message says what it is, if that is known.
    """
    name = block[:100].rstrip(b"\0").decode("ascii", "backslashreplace")
    kind = _KINDS.get(block[156:157])
    if kind:
        raise ValueError(f"{name!r} is {kind}; a bundle holds regular files only")
    try:
        member = Header(name, int(block[124:135], 8), int(block[100:107], 8))
        written = header(member)
    except ValueError:
        written = b""
    if written != block:
        raise ValueError(f"the header of {name!r} is not allowed in a bundle")
    return member


def padding(size: int) -> bytes:
    """The zeros between a member's last byte and the next header."""
    return bytes(-size % BLOCK)
