"""Embed CUDA kernels in a library as cubins, and read them back.

TVM built without the CUDA runtime leaves the kernels in the library as source, to be compiled when the library is
loaded. A board has no compiler, so ``embed`` replaces that source with a cubin for the board's architecture.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import EdgepackError, InputError

EM_CUDA = 190  # e_machine of a cubin
_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")


@dataclass(frozen=True)
class CudaKernel:
    """A CUDA kernel in a compiled model: its name and the architecture it is compiled for."""

    name: str
    arch: str


def embed(blob: bytes, source: str, cubin: bytes) -> bytes:
    """Replace a CUDA module's source with its cubin in TVM's packed imports.

    The module is serialised as its format, a table of its functions, and the code, each string preceded by its
    length in 8 bytes; the module and the blob are also preceded by their lengths.

    Args:
        blob: TVM's packed imports.
        source: The CUDA source in the blob.
        cubin: The compiled source.

    Raises:
        EdgepackError: The blob does not contain the source in that form.
    """
    kind = _string(b"cuda")  # the module's kind, and also the format of its code
    end = blob.find(_string(source.encode())) + 8 + len(source.encode())
    start = blob.find(kind)
    while 0 <= start < end:
        module = start + len(kind)
        head = struct.pack("<Q", end - module - 8) + kind
        if blob.startswith(head, module):
            table = blob[module + len(head) : end - len(source.encode()) - 8]
            compiled = _string(_string(b"cubin") + table + _string(cubin))
            return _string(blob[8:module] + compiled + blob[end:])
        start = blob.find(kind, start + 1)
    raise EdgepackError(
        "the compiled module does not contain its CUDA source as expected", next="report this"
    )


def kernels(path: Path) -> tuple[CudaKernel, ...]:
    """Read the CUDA kernels of a compiled model from the cubins in the file.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}", why=str(error)) from error
    kernels: list[CudaKernel] = []
    position = data.find(b"\x7fELF", 1)
    while position >= 0:
        kernels += _cubin_kernels(data[position:])
        position = data.find(b"\x7fELF", position + 4)
    return tuple(kernels)


def cubins(data: bytes, where: str) -> tuple[bytes, ...]:
    """Return the cubins of a compiled model; TVM stores each with its length in the 8 bytes before it.

    Args:
        data: The compiled model.
        where: Its name in errors.

    Raises:
        InputError: A cubin has no such length.
    """
    found: list[bytes] = []
    position = data.find(b"\x7fELF", 1)
    while position >= 0:
        end = position + 4
        if _cubin_kernels(data[position:]):
            (size,) = struct.unpack_from("<Q", data, position - 8) if position >= 8 else (0,)  # noqa: PLR2004
            end = position + size
            if not position + _ELF_HEADER.size <= end <= len(data):
                raise InputError(
                    "a cubin in a compiled model has no length",
                    where=f"{where}, byte {position}",
                    next="build the model again: edgepack package RECIPE",
                )
            found.append(data[position:end])
        position = data.find(b"\x7fELF", end)
    return tuple(found)


def _cubin_kernels(data: bytes) -> list[CudaKernel]:
    """Return the kernels of the cubin at the start of ``data``; empty for any other kind of ELF file."""
    if len(data) < _ELF_HEADER.size:
        return []
    header = _ELF_HEADER.unpack_from(data)
    machine, sections_at, flags, section_size, count, names_index = (
        header[2],
        header[6],
        header[7],
        header[11],
        header[12],
        header[13],
    )
    if machine != EM_CUDA or section_size != _SECTION.size or len(data) < sections_at + count * section_size:
        return []
    sections = [_SECTION.unpack_from(data, sections_at + i * section_size) for i in range(count)]
    names_at = sections[names_index][4]
    kernels = []
    for section in sections:
        start = names_at + section[0]
        name = data[start : data.index(b"\0", start)].decode(errors="replace")
        if name.startswith(".text."):
            kernels.append(CudaKernel(name.removeprefix(".text."), f"sm_{_architecture(flags)}"))
    return kernels


def _architecture(flags: int) -> int:
    """Return the SM version in a cubin's e_flags: bits 8 to 15 since CUDA 13's ELF ABI 8, bits 0 to 7 before."""
    return flags >> 8 & 0xFF or flags & 0xFF


def _string(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content
