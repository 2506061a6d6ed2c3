"""Shared libraries that a file needs: the DT_NEEDED entries of its dynamic section."""

import struct
from pathlib import Path

_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NEEDED, _DT_STRTAB = 1, 5


def needed_libraries(path: Path) -> tuple[str, ...]:
    """Names of the libraries that a 64-bit little-endian ELF file is linked to; empty for other files.

    Raises:
        ValueError: The file starts like an ELF file, but is damaged.
    """
    with path.open("rb") as file:
        if file.read(6) != b"\x7fELF\x02\x01":
            return ()
    data = path.read_bytes()
    try:
        return _needed(data)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is a damaged ELF file: {error}") from error


def _needed(data: bytes) -> tuple[str, ...]:
    (table,) = struct.unpack_from("<Q", data, 32)  # e_phoff
    size, count = struct.unpack_from("<HH", data, 54)  # e_phentsize, e_phnum
    loads: list[tuple[int, int, int]] = []
    dynamic: list[tuple[int, int]] = []
    for index in range(count):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", data, table + index * size)
        if kind == _PT_LOAD:
            loads.append((address, address + length, offset - address))
        elif kind == _PT_DYNAMIC:
            dynamic = list(struct.iter_unpack("<QQ", data[offset : offset + length // 16 * 16]))
    names = [value for tag, value in dynamic if tag == _DT_NEEDED]
    strings = next((value for tag, value in dynamic if tag == _DT_STRTAB), 0)
    shift = next((shift for start, end, shift in loads if start <= strings < end), 0)
    return tuple(_string(data, strings + shift + name) for name in names)


def _string(data: bytes, start: int) -> str:
    end = data.find(b"\0", start)
    if not 0 < start < end:
        raise IndexError("a library's name lies outside the file")
    return data[start:end].decode()
