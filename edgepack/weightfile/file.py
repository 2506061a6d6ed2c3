"""Writing and reading weights files; docs/bundle-format.md describes them, ``src/weightfile.c`` reads them on the board."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.files import write_atomic
from edgepack.errors import IntegrityError
from edgepack.spec.runtime import WEIGHTS_SUFFIX
from edgepack.weightfile.blocks import code_blocks, decode_block, grouped
from edgepack.weightfile.index import (
    BlockHead,
    Index,
    StoredBlock,
    StoredTensor,
    TensorHead,
    aligned,
    read_index,
    width_of,
    write_index,
)

if TYPE_CHECKING:
    import numpy as np

VERSION = 2

_MAGIC = b"EDGEPKWT"
_HEADER = struct.Struct(
    "<8s I I Q Q Q I"
)  # magic, version, tensors, index, file, raw bytes, crc of the index
_IDENTITY = struct.Struct("<I I Q")


@dataclass(frozen=True)
class RawTensor:
    """A tensor to write: TVM's name of its type, and its elements."""

    dtype: str
    elements: "np.ndarray"


@dataclass(frozen=True)
class PackedWeights:
    """A weights file in memory: its bytes, the identity of its contents as the library states it, and its index."""

    data: bytes
    identity: bytes
    index: Index

    @property
    def tensors(self) -> tuple[StoredTensor, ...]:
        """The tensors, in the order in which they were given."""
        return self.index.tensors

    def elements(self, where: str) -> Iterator[bytes]:
        """Yield the elements of each tensor, decoded and checked.

        Raises:
            IntegrityError: They are damaged; ``where`` is named.
        """
        decoded: dict[int, bytes] = {}
        for number, tensor in enumerate(self.tensors):
            if tensor.block not in decoded:
                try:
                    decoded[tensor.block] = self._decoded(self.index.blocks[tensor.block])
                except ValueError as error:
                    raise _damaged(where, f"weight {number}: {error}") from error
            yield decoded[tensor.block][tensor.place : tensor.place + tensor.raw_bytes]

    def write(self, path: Path) -> None:
        """Write the file, atomically."""
        write_atomic(path, self.data)

    def _decoded(self, block: StoredBlock) -> bytes:
        found = self.data[block.offset : block.offset + block.stored_bytes]
        if block.coded:
            found = decode_block(found, block.width, block.raw_bytes // block.width, self.index.tables)
        if zlib.crc32(found) != block.crc32:
            raise ValueError("its checksum does not match")
        return found


def weights_path(library: Path) -> Path:
    """The weights file of a compiled model."""
    return library.with_name(library.name + WEIGHTS_SUFFIX)


def pack_weights(tensors: Sequence[RawTensor]) -> PackedWeights:
    """Make a weights file: small tensors share blocks, and each block is stored in the way that makes it smallest.

    Raises:
        EdgepackError: A tensor has a type or a number of axes that the file cannot hold.
    """
    import numpy as np

    raw = [np.ascontiguousarray(tensor.elements).tobytes() for tensor in tensors]
    widths = [width_of(tensor.dtype) for tensor in tensors]
    groups = grouped([tensor.dtype for tensor in tensors], raw, widths)
    blocks = [(b"".join(raw[number] for number in each), widths[each[0]]) for each in groups]
    coded = code_blocks(blocks)
    stored = [data if code is None else code for (data, _), code in zip(blocks, coded.codes, strict=True)]
    heads = [
        BlockHead(code is not None, width, len(kept), zlib.crc32(data))
        for (data, width), code, kept in zip(blocks, coded.codes, stored, strict=True)
    ]
    homes = {number: block for block, each in enumerate(groups) for number in each}
    named = [
        TensorHead(tensor.dtype, tensor.elements.shape, homes[number])
        for number, tensor in enumerate(tensors)
    ]
    index = write_index(coded.tables, heads, named)
    out = bytearray(_HEADER.size) + index
    for (data, _), head, kept in zip(blocks, heads, stored, strict=True):
        out += bytes(aligned(len(out), len(data), coded=head.coded) - len(out)) + kept
    size, total = len(out), sum(map(len, raw))
    out[: _HEADER.size] = _HEADER.pack(
        _MAGIC, VERSION, len(tensors), len(index), size, total, zlib.crc32(index)
    )
    return _read(bytes(out))


def read_weights(data: bytes, where: str) -> PackedWeights:
    """Read a weights file up to its elements.

    Raises:
        IntegrityError: It is not a weights file, or is damaged; ``where`` is named.
    """
    try:
        return _read(data)
    except (ValueError, struct.error) as error:
        raise _damaged(where, str(error)) from error


def _damaged(where: str, why: str) -> IntegrityError:
    return IntegrityError(
        "the weights file is damaged",
        where=where,
        why=why,
        next="build it again: edgepack compile or package",
    )


def _read(data: bytes) -> PackedWeights:
    magic, version, count, length, size, total, crc = _HEADER.unpack_from(data)
    if magic != _MAGIC or version != VERSION:
        raise ValueError(f"it does not begin as a weights file of version {VERSION}")
    if size != len(data):
        raise ValueError(f"it has {len(data)} bytes, its header says {size}")
    end = _HEADER.size + length
    written = data[_HEADER.size : end]
    if len(written) != length or zlib.crc32(written) != crc:
        raise ValueError("the checksum of its index does not match")
    index = read_index(written, count, end, size)
    if sum(tensor.raw_bytes for tensor in index.tensors) != total:
        raise ValueError("its weights are not as large as its header says")
    for block in index.blocks:
        if data[end : block.offset].strip(b"\0"):
            raise ValueError("bytes between its blocks are not zero")
        end = block.offset + block.stored_bytes
    return PackedWeights(data, _IDENTITY.pack(count, crc, total), index)
