"""The index of a weights file: tables of frequencies, blocks, and the tensors in them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.errors import EdgepackError
from edgepack.weightfile.cursor import Cursor, varint
from edgepack.weightfile.frequencies import Table, read_table

MOST_TABLES = 1024

_ALIGNMENT = 64
_MAPPABLE = 4096  # bytes of a block from which it is aligned if it is not coded
_MOST_AXES = 16
_CODED = 8  # in the byte with the size of a block's elements
_KINDS = {"int": 0, "uint": 1, "float": 2, "bfloat": 4}  # DLPack's type codes
_BOOL = 6
_WIDTHS = {"8": 0, "16": 1, "32": 2, "64": 3}  # bits of an element: its bytes as a power of two


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a weights file: its elements begin at ``place`` in the elements of a block, both in bytes.

    ``stored_bytes`` is its share of what the block takes in the file, ``raw_bytes`` the size of its elements.
    """

    dtype: str
    shape: tuple[int, ...]
    block: int
    place: int
    stored_bytes: int
    raw_bytes: int


@dataclass(frozen=True)
class StoredBlock:
    """Elements of ``width`` bytes, of one tensor or several: where they are in the file, and the checksum of the elements.

    ``raw_bytes`` is the size of the elements.
    """

    coded: bool
    width: int
    offset: int
    stored_bytes: int
    raw_bytes: int
    crc32: int


@dataclass(frozen=True)
class Index:
    """What a weights file says it has."""

    tables: tuple[Table, ...]
    blocks: tuple[StoredBlock, ...]
    tensors: tuple[StoredTensor, ...]


@dataclass(frozen=True)
class BlockHead:
    """A block as the index has it."""

    coded: bool
    width: int
    stored_bytes: int
    crc32: int


@dataclass(frozen=True)
class TensorHead:
    """A tensor as the index has it, with the number of its block."""

    dtype: str
    shape: tuple[int, ...]
    block: int


def width_of(dtype: str) -> int:
    """Return the bytes of an element.

    Raises:
        EdgepackError: A weights file cannot hold this type.
    """
    return 1 << (_code(dtype) >> 4)


def aligned(place: int, raw_bytes: int, *, coded: bool) -> int:
    """Return where a block of ``raw_bytes`` begins, at ``place`` or after it: large ones that are not coded can be mapped."""
    return place if coded or raw_bytes < _MAPPABLE else -(-place // _ALIGNMENT) * _ALIGNMENT


def write_index(tables: Sequence[Table], blocks: Sequence[BlockHead], tensors: Sequence[TensorHead]) -> bytes:
    """Write an index; :func:`read_index` reads it.

    Raises:
        EdgepackError: A tensor has a type or a number of axes that the file cannot hold.
    """
    parts = [varint(len(tables)), *(table.written for table in tables), varint(len(blocks))]
    for block in blocks:
        head = (block.width.bit_length() - 1) | (_CODED if block.coded else 0)
        parts += [bytes([head]), varint(block.stored_bytes), block.crc32.to_bytes(4, "little")]
    return b"".join((*parts, *map(_entry, tensors)))


def read_index(index: bytes, count: int, begin: int, end: int) -> Index:
    """Read an index of ``count`` tensors; the blocks lie from ``begin`` to ``end`` in the file.

    Raises:
        ValueError: It is not valid.
    """
    cursor = Cursor(index)
    tables = tuple(read_table(cursor) for _ in range(_count(cursor, min(cursor.varint(), MOST_TABLES + 1))))
    if len(tables) > MOST_TABLES:
        raise ValueError("it has too many tables")
    heads = [_read_block(cursor) for _ in range(_count(cursor, cursor.varint()))]
    tensors = [_read_entry(cursor) for _ in range(_count(cursor, count))]
    if cursor.at != len(index):
        raise ValueError("its index is longer than its entries")
    sizes, places = [0] * len(heads), []
    for tensor in tensors:
        if tensor.block >= len(heads) or width_of(tensor.dtype) != heads[tensor.block].width:
            raise ValueError("a tensor is in a block of other elements")
        places.append(sizes[tensor.block])
        sizes[tensor.block] += math.prod(tensor.shape) * heads[tensor.block].width
    blocks: list[StoredBlock] = []
    for head, raw in zip(heads, sizes, strict=True):
        begin = aligned(begin, raw, coded=head.coded)
        if not head.coded and head.stored_bytes != raw:
            raise ValueError("the sizes of a block contradict each other")
        blocks.append(StoredBlock(head.coded, head.width, begin, head.stored_bytes, raw, head.crc32))
        begin += head.stored_bytes
    if begin != end:
        raise ValueError("its index does not cover the file")
    return Index(
        tables, tuple(blocks), tuple(map(_stored, tensors, [blocks[each.block] for each in tensors], places))
    )


def _stored(tensor: TensorHead, block: StoredBlock, place: int) -> StoredTensor:
    raw = math.prod(tensor.shape) * block.width
    first, last = (at * block.stored_bytes // max(1, block.raw_bytes) for at in (place, place + raw))
    return StoredTensor(tensor.dtype, tensor.shape, tensor.block, place, last - first, raw)


def _count(cursor: Cursor, count: int) -> int:
    """Return a number of things to read, each of which takes a byte or more."""
    if count > len(cursor.data) - cursor.at:
        raise ValueError("its index ends too early")
    return count


def _read_block(cursor: Cursor) -> BlockHead:
    head = cursor.byte()
    if head >= 2 * _CODED or head % _CODED not in _WIDTHS.values():
        raise ValueError("a block of its index is not valid")
    return BlockHead(bool(head & _CODED), 1 << head % _CODED, cursor.varint(), cursor.number(4))


def _entry(tensor: TensorHead) -> bytes:
    rank = len(tensor.shape)
    if rank > _MOST_AXES:
        raise EdgepackError(
            f"the weights file cannot hold a constant with {rank} axes",
            why=f"{_MOST_AXES} are the most",
            next="report this",
        )
    return bytes([_code(tensor.dtype), rank]) + b"".join(map(varint, (*tensor.shape, tensor.block)))


def _read_entry(cursor: Cursor) -> TensorHead:
    dtype, rank = _dtype(cursor.byte()), cursor.byte()
    if rank > _MOST_AXES:
        raise ValueError("an entry of its index is not valid")
    return TensorHead(dtype, tuple(cursor.varint() for _ in range(rank)), cursor.varint())


def _code(dtype: str) -> int:
    """DLPack's type code in the lower four bits, and above it the size of an element as a power of two."""
    kind = dtype.rstrip("0123456789")
    bits = dtype.removeprefix(kind)
    if dtype == "bool":
        return _BOOL
    if kind not in _KINDS or bits not in _WIDTHS:
        raise EdgepackError(f"a weights file cannot hold constants of type {dtype}", next="report this")
    return _KINDS[kind] | _WIDTHS[bits] << 4


def _dtype(code: int) -> str:
    if code == _BOOL:
        return "bool"
    kind = next((kind for kind, number in _KINDS.items() if number == code % 16), None)
    bits = next((bits for bits, number in _WIDTHS.items() if number == code >> 4), None)
    if kind is None or bits is None:
        raise ValueError(f"there is no type {code}")
    return f"{kind}{bits}"
