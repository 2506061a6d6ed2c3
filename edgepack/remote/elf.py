"""Shared libraries that a file needs: the DT_NEEDED entries of its dynamic section."""

import mmap
import re
import struct
from collections.abc import Iterator
from pathlib import Path

_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB = 0, 1, 5
_HEADER, _SEGMENT = 64, 56  # bytes: sizes of Elf64_Ehdr and Elf64_Phdr
# More than any library has; a forged file may claim millions.
_MAX_SEGMENTS, _MAX_ENTRIES, _MAX_NAME = 1024, 65_536, 255
_LIBRARY = re.compile(rb"[A-Za-z0-9._+-]+")


def needed_libraries(path: Path) -> tuple[str, ...]:
    """Names of the libraries that a 64-bit little-endian ELF file is linked to; empty for other files.

    Raises:
        ValueError: The file starts like an ELF file, but is damaged.
    """
    with path.open("rb") as file:
        if file.read(6) != b"\x7fELF\x02\x01":
            return ()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _needed(data)
            except (struct.error, IndexError) as error:
                raise ValueError(f"{path.name} is a damaged ELF file: {error}") from error


def _needed(data: mmap.mmap) -> tuple[str, ...]:
    (table,) = struct.unpack_from("<Q", data, 32)  # e_phoff
    size, count = struct.unpack_from("<HH", data, 54)  # e_phentsize, e_phnum
    if count and size != _SEGMENT:
        raise IndexError(f"its program headers have {size} bytes, not {_SEGMENT}")
    if count > _MAX_SEGMENTS or table > len(data):
        raise IndexError(f"it claims {count} program headers at byte {table}")
    loads: list[tuple[int, int, int]] = []
    entries: list[tuple[int, int]] = []
    for index in range(count):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", data, table + index * size)
        if kind == _PT_LOAD:
            loads.append((address, address + length, offset - address))
        elif kind == _PT_DYNAMIC:
            entries = list(_entries(data, offset, length))
    strings = next((value for tag, value in entries if tag == _DT_STRTAB), 0)
    shift = next((shift for start, end, shift in loads if start <= strings < end), 0)
    return tuple(_name(data, strings + shift + value) for tag, value in entries if tag == _DT_NEEDED)


def _entries(data: mmap.mmap, offset: int, length: int) -> Iterator[tuple[int, int]]:
    """The dynamic section's tags and values, up to its end mark."""
    if offset > len(data) or length > len(data) - offset or length // 16 > _MAX_ENTRIES:
        raise IndexError(f"it claims a dynamic section of {length} bytes at byte {offset}")
    for tag, value in struct.iter_unpack("<QQ", data[offset : offset + length // 16 * 16]):
        if tag == _DT_NULL:
            return
        yield tag, value


def _name(data: mmap.mmap, start: int) -> str:
    if not _HEADER <= start < len(data):
        raise IndexError("a library's name lies outside the file")
    end = data.find(b"\0", start, start + _MAX_NAME + 1)
    if end < 0 or not _LIBRARY.fullmatch(data[start:end]):
        raise IndexError("a library's name is not a file name")
    return data[start:end].decode("ascii")
