"""Content-defined chunks: cut points that move with the contents, so that an insertion changes one or two chunks.

The cut points are those of a gear hash with normalised sizes, as in FastCDC (Xia et al., "FastCDC: a Fast and Efficient
Content-Defined Chunking Approach for Data Deduplication", USENIX ATC 2016). ``agent/src/chunks.c`` cuts files on the board
the same way; docs/agent-protocol.md specifies it.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

MIN, NORMAL, MAX = 2048, 8192, 32768  # bytes of a chunk; the last one of a file may be smaller
FINEST = 4
DIGEST = 5  # bytes of a chunk's sha256 that are compared; the sha256 of the whole file is compared in the end

# Bits of the hash that are 0 at a cut: fewer from NORMAL on, so that sizes vary less.
_BITS_BEFORE, _BITS_AFTER = 14, 12
_WINDOW = 32  # bytes that the hash depends on
_BLOCK = 1 << 18  # bytes that are hashed at once: their hashes fit into a cache
_RECORD = 2 + DIGEST
_COARSE = 8 << 20  # bytes of a file from which on its chunks are not finer


@dataclass(frozen=True)
class Chunk:
    """A piece of a file: where it begins, its size in bytes, and the first bytes of its sha256."""

    offset: int
    size: int
    digest: bytes


def finer(size: int) -> int:
    """How much finer the chunks of a file of this size are: a small file has no long list of them, and is sent in less."""
    shift = 0
    while shift < FINEST and size < _COARSE >> 2 * shift:
        shift += 1
    return shift


def split(data: bytes | memoryview, shift: int = 0) -> Iterator[Chunk]:
    """The chunks of a file's contents, in order; all sizes are shifted to the right by ``shift``."""
    for begin, end in _ranges(data, shift):
        yield Chunk(begin, end - begin, hashlib.sha256(data[begin:end]).digest()[:DIGEST])


def parse_lists(answer: bytes, count: int) -> list[list[Chunk]]:
    """The chunks of ``count`` files, as the agent's ``chunks`` writes them.

    Raises:
        ValueError: The answer has another form.
    """
    found: list[list[Chunk]] = []
    chunks: list[Chunk] = []
    offset = position = 0
    while len(found) < count:
        record = answer[position : position + _RECORD]
        size = int.from_bytes(record[:2], "little")
        if len(record) < (_RECORD if size else 2):
            raise ValueError(f"it ends after {len(found)} of {count} files")
        if size:
            chunks.append(Chunk(offset, size, record[2:]))
            offset += size
        else:
            found.append(chunks)
            chunks, offset = [], 0
        position += _RECORD if size else 2
    if position != len(answer):
        raise ValueError(f"{len(answer) - position} more bytes than {count} files have")
    return found


def _ranges(data: bytes | memoryview, shift: int) -> Iterator[tuple[int, int]]:
    cuts, rare = _cuts(data, shift)
    begin, total = 0, len(data)
    while begin < total:
        end = min(begin + (MAX >> shift), total)
        normal = min(begin + (NORMAL >> shift), end)
        for positions, first, last in ((rare, begin + (MIN >> shift), normal), (cuts, normal, end)):
            index = bisect_left(positions, first)
            if index < len(positions) and positions[index] < last:
                end = positions[index]
                break
        yield begin, end
        begin = end


def _cuts(data: bytes | memoryview, shift: int) -> tuple[list[int], list[int]]:
    """Positions at which a chunk may end: from NORMAL on, and before."""
    import numpy as np

    octets = np.frombuffer(data, np.uint8)
    found, rare = [], []
    for begin in range(0, len(octets), _BLOCK):
        first = max(0, begin - _WINDOW + 1)
        hashes = _hashes(octets[first : begin + _BLOCK])[begin - first :]
        positions = np.flatnonzero(hashes < 1 << 32 - _BITS_AFTER + shift)
        rare.append(positions[hashes[positions] < 1 << 32 - _BITS_BEFORE + shift] + begin + 1)
        found.append(positions + begin + 1)
    return (np.concatenate(found).tolist(), np.concatenate(rare).tolist()) if found else ([], [])


def _hashes(octets: "np.ndarray") -> "np.ndarray":
    """The gear hash after each byte: the sum of the values of the last 32 bytes, each shifted by its distance."""
    hashes: np.ndarray = _gear()[octets]
    shift = 1
    while shift < _WINDOW:
        hashes[shift:] += hashes[:-shift] << shift
        shift *= 2
    return hashes


@cache
def _gear() -> "np.ndarray":
    import numpy as np

    words = [int.from_bytes(hashlib.sha256(bytes([value])).digest()[:4]) for value in range(256)]
    return np.array(words, np.uint32)
