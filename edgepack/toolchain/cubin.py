"""Read CUDA kernels in their compiled form: cubins, ELF files of NVIDIA's own machine type, alone or inside a library."""

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import InputError

EM_CUDA = 190  # e_machine of a cubin
_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")


@dataclass(frozen=True)
class CudaKernel:
    """A CUDA kernel: its name, the architecture it is compiled for, and its registers per thread."""

    name: str
    arch: str
    registers: int = 0


@dataclass(frozen=True)
class Cubin:
    """One cubin: the sha256 of its bytes, and its kernels."""

    digest: str
    kernels: tuple[CudaKernel, ...]


def cubins(data: bytes) -> tuple[Cubin, ...]:
    """Return the cubins in a file's contents, in order."""
    return tuple(cubin for at in _elf_positions(data) if (cubin := _cubin(data, at)) is not None)


def read_cubins(path: Path) -> tuple[Cubin, ...]:
    """Return the cubins in a file.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        return cubins(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}", why=str(error)) from error


def kernels(path: Path) -> tuple[CudaKernel, ...]:
    """Read the CUDA kernels of a compiled model from the cubins in the file.

    Raises:
        InputError: The file cannot be read.
    """
    return tuple(kernel for cubin in read_cubins(path) for kernel in cubin.kernels)


def _elf_positions(data: bytes) -> list[int]:
    positions = []
    position = data.find(b"\x7fELF")
    while position >= 0:
        positions.append(position)
        position = data.find(b"\x7fELF", position + 4)
    return positions


def _cubin(data: bytes, at: int) -> Cubin | None:
    """Return the cubin at a position; None for any other kind of ELF file."""
    if len(data) - at < _ELF_HEADER.size:
        return None
    header = _ELF_HEADER.unpack_from(data, at)
    machine, segments_at, sections_at, flags = header[2], header[5], header[6], header[7]
    segment_size, segment_count, section_size, section_count, names_index = header[9:14]
    size = max(sections_at + section_count * section_size, segments_at + segment_count * segment_size)
    if machine != EM_CUDA or section_size != _SECTION.size or len(data) - at < size:
        return None
    sections = [_SECTION.unpack_from(data, at + sections_at + i * section_size) for i in range(section_count)]
    names_at = at + sections[names_index][4]
    found = []
    for section in sections:
        start = names_at + section[0]
        name = data[start : data.index(b"\0", start)].decode(errors="replace")
        if name.startswith(".text."):
            # The section's sh_info has the registers per thread in its upper 8 bits.
            registers = section[7] >> 24
            found.append(CudaKernel(name.removeprefix(".text."), f"sm_{_architecture(flags)}", registers))
    return Cubin(hashlib.sha256(data[at : at + size]).hexdigest(), tuple(found))


def _architecture(flags: int) -> int:
    """Return the SM version in a cubin's e_flags: bits 8 to 15 since CUDA 13's ELF ABI 8, bits 0 to 7 before."""
    return flags >> 8 & 0xFF or flags & 0xFF
