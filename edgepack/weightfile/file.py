"""Writing and reading weights files; docs/bundle-format.md describes them, ``src/weightfile.c`` reads them on the board."""

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgepack.base.files import write_atomic
from edgepack.errors import EdgepackError, IntegrityError
from edgepack.spec.runtime import WEIGHTS_SUFFIX
from edgepack.weightfile import rans

if TYPE_CHECKING:
    import numpy as np

VERSION = 1

_MAGIC = b"EDGEPKWT"
_HEADER = struct.Struct(
    "<8s I I Q Q Q I 20x"
)  # magic, version, count, index, file, raw bytes, crc of the index
_ENTRY = struct.Struct("<Q Q Q I I B B B B I")  # offset, stored, raw, crc, name, dtype, bits, rank, coding, 0
_IDENTITY = struct.Struct("<I I Q")
_ALIGNMENT = 64
_MOST_AXES = 16
_LONGEST_NAME = 4096
_CODINGS: tuple[Literal["raw", "rans"], ...] = ("raw", "rans")
_KINDS = {"int": 0, "uint": 1, "float": 2, "bfloat": 4}  # DLPack's type codes
_BOOL = (6, 8)


@dataclass(frozen=True)
class NamedTensor:
    """A tensor to write: its name (of the ONNX model's initializer, or empty), TVM's name of its type, its elements."""

    name: str
    dtype: str
    elements: "np.ndarray"


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a weights file.

    ``stored_bytes`` is its size in the file, ``raw_bytes`` that of its elements, and ``crc32`` is of the elements.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    coding: Literal["raw", "rans"]
    offset: int
    stored_bytes: int
    raw_bytes: int
    crc32: int


@dataclass(frozen=True)
class PackedWeights:
    """A weights file in memory: its bytes, the identity of its contents as the library states it, and its tensors."""

    data: bytes
    identity: bytes
    tensors: tuple[StoredTensor, ...]

    def write(self, path: Path) -> None:
        """Write the file, atomically."""
        write_atomic(path, self.data)


def weights_path(library: Path) -> Path:
    """The weights file of a compiled model."""
    return library.with_name(library.name + WEIGHTS_SUFFIX)


def pack_weights(tensors: Sequence[NamedTensor]) -> PackedWeights:
    """Make a weights file; each tensor is in the coding that makes it smallest.

    Raises:
        EdgepackError: A tensor has a type, a name or a number of axes that the file cannot hold.
    """
    import numpy as np

    raw = [np.ascontiguousarray(tensor.elements).tobytes() for tensor in tensors]
    coded = [_coded(data, _code(tensor.dtype)[1] // 8) for data, tensor in zip(raw, tensors, strict=True)]
    size = sum(_entry_size(tensor.name.encode(), tensor.elements.ndim) for tensor in tensors)
    place, entries = _aligned(_HEADER.size + size), []
    for tensor, data, (coding, stored) in zip(tensors, raw, coded, strict=True):
        entries.append(
            StoredTensor(
                name=tensor.name,
                dtype=tensor.dtype,
                shape=tensor.elements.shape,
                coding=coding,
                offset=place,
                stored_bytes=len(stored),
                raw_bytes=len(data),
                crc32=zlib.crc32(data),
            )
        )
        place = _aligned(place + len(stored))
    index = b"".join(map(_entry, entries))
    end = entries[-1].offset + entries[-1].stored_bytes if entries else _aligned(_HEADER.size)
    total = sum(entry.raw_bytes for entry in entries)
    crc = zlib.crc32(index)
    out = bytearray(end)
    out[: _HEADER.size] = _HEADER.pack(_MAGIC, VERSION, len(entries), len(index), end, total, crc)
    out[_HEADER.size : _HEADER.size + len(index)] = index
    for entry, (_, stored) in zip(entries, coded, strict=True):
        out[entry.offset : entry.offset + len(stored)] = stored
    return PackedWeights(bytes(out), _IDENTITY.pack(len(entries), crc, total), tuple(entries))


def read_index(data: bytes, where: str) -> tuple[StoredTensor, ...]:
    """Return the tensors that a weights file says it has.

    Raises:
        IntegrityError: It is not a weights file, or is damaged.
    """
    try:
        return _read_index(data)
    except (ValueError, struct.error) as error:
        raise _damaged(where, str(error)) from error


def read(data: bytes, tensor: StoredTensor, where: str) -> bytes:
    """Return the elements of a tensor, decoded and checked.

    Raises:
        IntegrityError: They are damaged.
    """
    stored = data[tensor.offset : tensor.offset + tensor.stored_bytes]
    if tensor.coding == "rans":
        width = _code(tensor.dtype)[1] // 8
        try:
            stored = rans.decode(stored, width, tensor.raw_bytes // width)
        except ValueError as error:
            raise _damaged(where, f"{tensor.name or 'a weight'}: {error}") from error
    if zlib.crc32(stored) != tensor.crc32:
        raise _damaged(where, f"the checksum of {tensor.name or 'a weight'} does not match")
    return stored


def _damaged(where: str, why: str) -> IntegrityError:
    return IntegrityError(
        "the weights file is damaged",
        where=where,
        why=why,
        next="build it again: edgepack compile or package",
    )


def _read_index(data: bytes) -> tuple[StoredTensor, ...]:
    magic, version, count, length, size, total, crc = _HEADER.unpack_from(data)
    if magic != _MAGIC or version != VERSION:
        raise ValueError(f"it does not begin as a weights file of version {VERSION}")
    if size != len(data):
        raise ValueError(f"it has {len(data)} bytes, its header says {size}")
    if data[_HEADER.size - 20 : _HEADER.size].strip(b"\0"):
        raise ValueError("its header is not padded with zeros")
    index = data[_HEADER.size : _HEADER.size + length]
    if len(index) != length or zlib.crc32(index) != crc:
        raise ValueError("the checksum of its index does not match")
    tensors, at, place = [], 0, _HEADER.size + length
    for _ in range(count):
        tensor, at = _read_entry(index, at)
        if tensor.offset != _aligned(place) or data[place : tensor.offset].strip(b"\0"):
            raise ValueError("a tensor is not where it must be")
        place = tensor.offset + tensor.stored_bytes
        if place > size:
            raise ValueError("a tensor ends after the file")
        tensors.append(tensor)
    end = place if tensors else _aligned(place)
    if at != length or end != size or sum(tensor.raw_bytes for tensor in tensors) != total:
        raise ValueError("its index does not cover the file")
    return tuple(tensors)


def _read_entry(index: bytes, at: int) -> tuple[StoredTensor, int]:
    offset, stored, raw, crc, length, code, bits, rank, coding, zero = _ENTRY.unpack_from(index, at)
    if rank > _MOST_AXES or length > _LONGEST_NAME or coding >= len(_CODINGS) or zero:
        raise ValueError("an entry of its index is not valid")
    shape = struct.unpack_from(f"<{rank}q", index, at + _ENTRY.size)
    start = at + _ENTRY.size + 8 * rank
    name = index[start : start + length]
    end = at + _entry_size(name, rank)
    if len(name) != length or end > len(index) or index[start + length : end].strip(b"\0"):
        raise ValueError("an entry of its index is not valid")
    dtype = _dtype(code, bits)
    if min(shape, default=0) < 0 or math.prod(shape) * (bits // 8) != raw:
        raise ValueError("the sizes of a tensor contradict each other")
    if _CODINGS[coding] == "raw" and stored != raw:
        raise ValueError("the sizes of a tensor contradict each other")
    tensor = StoredTensor(name.decode(), dtype, shape, _CODINGS[coding], offset, stored, raw, crc)
    return tensor, end


def _entry(tensor: StoredTensor) -> bytes:
    name, rank = tensor.name.encode(), len(tensor.shape)
    if len(name) > _LONGEST_NAME or rank > _MOST_AXES:
        raise EdgepackError(
            f"the weights file cannot hold {tensor.name[:80]!r}",
            why=f"it has {rank} axes and a name of {len(name)} bytes; {_MOST_AXES} and {_LONGEST_NAME} are the most",
            next="give the initializer a shorter name",
        )
    head = _ENTRY.pack(
        tensor.offset,
        tensor.stored_bytes,
        tensor.raw_bytes,
        tensor.crc32,
        len(name),
        *_code(tensor.dtype),
        rank,
        _CODINGS.index(tensor.coding),
        0,
    )
    body = head + struct.pack(f"<{rank}q", *tensor.shape) + name
    return body.ljust(_entry_size(name, rank), b"\0")


def _entry_size(name: bytes, rank: int) -> int:
    return -(-(_ENTRY.size + 8 * rank + len(name)) // 8) * 8


def _coded(data: bytes, width: int) -> tuple[Literal["raw", "rans"], bytes]:
    code = rans.encode(data, width)
    return ("rans", code) if len(code) < len(data) else ("raw", data)


def _aligned(place: int) -> int:
    return -(-place // _ALIGNMENT) * _ALIGNMENT


def _code(dtype: str) -> tuple[int, int]:
    """DLPack's type code and the bits of a type."""
    kind = dtype.rstrip("0123456789")
    bits = dtype.removeprefix(kind)
    if dtype == "bool":
        return _BOOL
    if kind not in _KINDS or bits not in {"8", "16", "32", "64"}:
        raise EdgepackError(f"a weights file cannot hold constants of type {dtype}", next="report this")
    return _KINDS[kind], int(bits)


def _dtype(code: int, bits: int) -> str:
    if (code, bits) == _BOOL:
        return "bool"
    kind = next((kind for kind, number in _KINDS.items() if number == code), None)
    if kind is None or bits not in {8, 16, 32, 64}:
        raise ValueError(f"there is no type {code} of {bits} bits")
    return f"{kind}{bits}"
