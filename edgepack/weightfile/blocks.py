"""Blocks of a weights file: elements of one size, coded byte by byte with tables of frequencies that all blocks share.

A block with elements of *n* bytes is *n* planes: the first bytes of all elements, then the second ones, and so on. A plane
is coded with the table that makes it smallest, its own or that of another plane, or is stored as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.weightfile import rans
from edgepack.weightfile.cursor import Cursor, varint
from edgepack.weightfile.frequencies import SMALL, Table, fewest_bits, table_for
from edgepack.weightfile.index import MOST_TABLES
from edgepack.weightfile.worth import FULL, worth_a_copy

if TYPE_CHECKING:
    import numpy as np

_RAW = 0  # in place of the number of a plane's table
_WORTH_CODING = 63 / 64  # of a large plane's bytes: to decode them takes time at each load
_FEWEST = 8  # elements from which bytes that are zero are worth a block


@dataclass(frozen=True)
class CodedBlocks:
    """Blocks as they are stored: the code of each, or None if it is stored as it is; and the tables of the codes."""

    codes: tuple[bytes | None, ...]
    tables: tuple[Table, ...]


def grouped(dtypes: Sequence[str], raw: Sequence[bytes], widths: Sequence[int]) -> list[list[int]]:
    """Return the tensors of each block, by number: large tensors alone, small ones of a type together.

    Tensors share a block only if the same bytes of all their elements are zero, so that those take no space in any.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    sizes: dict[tuple[object, ...], int] = {}
    for number, (dtype, data, width) in enumerate(zip(dtypes, raw, widths, strict=True)):
        key: tuple[object, ...] = (number,)
        if len(data) <= SMALL:
            zeros = [len(data) >= _FEWEST * width and not any(data[place::width]) for place in range(width)]
            kind = (dtype, *zeros)
            key = (*kind, sizes.get(kind, 0) // FULL)
            sizes[kind] = sizes.get(kind, 0) + len(data)
        groups.setdefault(key, []).append(number)
    return list(groups.values())


def code_blocks(blocks: Sequence[tuple[bytes, int]]) -> CodedBlocks:
    """Code blocks, each given by its elements and their size in bytes, so that they and their tables are small."""
    import numpy as np

    planes = [_planes(data, width) for data, width in blocks]
    counts = [[np.bincount(plane, minlength=256) for plane in each] for each in planes]
    worth = [_may_be_worthwhile(each) for each in counts]
    found = iter(_choose([each for each, good in zip(counts, worth, strict=True) if good]))
    chosen = [
        _if_worthwhile(next(found), each) if good else [None] * len(each)
        for each, good in zip(counts, worth, strict=True)
    ]
    tables: list[Table] = []
    codes: list[bytes | None] = []
    for (data, _), each, own in zip(blocks, planes, chosen, strict=True):
        known = [*tables, *(table for table in own if table is not None and table not in tables)]
        code = b"".join(
            varint(_RAW) + plane.tobytes()
            if table is None
            else varint(known.index(table) + 1) + rans.encode(plane, table)
            for plane, table in zip(each, own, strict=True)
        )
        if len(code) + sum(len(table.written) for table in known[len(tables) :]) < len(data):
            codes.append(code)
            tables = known
        else:
            codes.append(None)
    return CodedBlocks(tuple(codes), tuple(tables))


def decode_block(code: bytes, width: int, count: int, tables: Sequence[Table]) -> bytes:
    """Decode ``count`` elements of ``width`` bytes.

    Raises:
        ValueError: The code is not well-formed.
    """
    import numpy as np

    cursor = Cursor(code)
    planes = np.empty((count, width), np.uint8)
    for place in range(width):
        number = cursor.varint()
        if number > len(tables):
            raise ValueError(f"there is no table {number}")
        if number == _RAW:
            planes[:, place] = np.frombuffer(cursor.take(count), np.uint8)
        else:
            planes[:, place] = rans.decode(cursor, count, tables[number - 1])
    if cursor.at != len(code):
        raise ValueError(f"{len(code) - cursor.at} bytes follow the code")
    return planes.tobytes()


def _planes(data: bytes, width: int) -> "list[np.ndarray]":
    import numpy as np

    elements = np.frombuffer(data, np.uint8).reshape(-1, width)
    return [np.ascontiguousarray(elements[:, place]) for place in range(width)]


def _choose(counts: "Sequence[Sequence[np.ndarray]]") -> list[list[Table | None]]:
    """Return the table of every plane, given how often each byte occurs in it; None where it is stored as it is.

    Large planes choose first: small ones then use their tables, where one of their own would not pay.
    """
    chosen: list[list[Table | None]] = [[None] * len(each) for each in counts]
    places = [(block, place) for block, each in enumerate(counts) for place in range(len(each))]
    tables: list[Table] = []
    for block, place in sorted(places, key=lambda at: -int(counts[at[0]][at[1]].sum())):
        own = counts[block][place]
        size = int(own.sum())
        least, best = 8.0 * size * (_WORTH_CODING if size > FULL else 1), None
        around = 8 * (len(varint(size // 2)) + 2 + (4 << rans.lane_bits(size)))
        for table in tables:
            bits = table.bits(own) + around
            if bits < least:
                least, best = bits, table
        if size and len(tables) < MOST_TABLES and fewest_bits(own) + around < least:
            fresh = table_for(own)
            bits = fresh.bits(own) + around + 8 * len(fresh.written)
            if bits < least:
                tables.append(fresh)
                best = fresh
        chosen[block][place] = best
    return chosen


def _may_be_worthwhile(counts: "Sequence[np.ndarray]") -> bool:
    """Whether a block may be worth coding; to find the best tables takes time."""
    sizes = [int(each.sum()) for each in counts]
    least = sum(min(size, fewest_bits(own) / 8) for own, size in zip(counts, sizes, strict=True))
    return worth_a_copy(least, sum(sizes), len(sizes))


def _if_worthwhile(chosen: list[Table | None], counts: "Sequence[np.ndarray]") -> list[Table | None]:
    """Return the tables of a block's planes, or none."""
    sizes = [int(each.sum()) for each in counts]
    coded = (
        size if table is None else table.bits(own) / 8
        for table, own, size in zip(chosen, counts, sizes, strict=True)
    )
    return chosen if worth_a_copy(sum(coded), sum(sizes), len(sizes)) else [None] * len(chosen)
