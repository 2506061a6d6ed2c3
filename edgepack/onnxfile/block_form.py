"""Weights with many zeros as the blocks that are not zero.

The blocks are those of the packed layout: rows are output channels and columns input channels, at each position of a
convolution's kernel. Their size is chosen for each weight so that it takes the fewest bytes; if every block of a pruned
weight was removed as a whole, it is the size of these blocks.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_HEIGHTS = (64, 32, 16, 8, 4, 2, 1)
_WIDTHS = (16, 8, 4, 2, 1)
_FARTHEST = 255  # distance to the next block, in one byte
_LARGEST = 0.85  # of the dense weight: decoding must be worth it
_LEAST_SAVED = 512  # bytes: the nodes that decode a weight take about as many in the file


@dataclass(frozen=True)
class SparseBlocks:
    """A weight as its blocks that are not zero.

    Attributes:
        blocks: ``[n, height, width]``.
        gaps: uint8 ``[n]``: the first place, then the distance of each block from the one before.
        grid: number of blocks along rows, positions and columns; the last of them counts fastest.
    """

    blocks: "np.ndarray"
    gaps: "np.ndarray"
    grid: tuple[int, int, int]

    @property
    def nbytes(self) -> int:
        """Stored bytes."""
        return int(self.blocks.nbytes + self.gaps.nbytes)

    def rows(self) -> "np.ndarray":
        """Decode: ``[rows, positions, columns]``."""
        import numpy as np

        n, height, width = self.blocks.shape
        every = np.zeros((math.prod(self.grid), height, width), self.blocks.dtype)
        every[np.cumsum(self.gaps.astype(np.int64))[:n]] = self.blocks
        r, p, c = self.grid
        return (
            every.reshape(r, p, c, height, width).transpose(0, 3, 1, 2, 4).reshape(r * height, p, c * width)
        )


def smaller_blocks(array: "np.ndarray", *, inputs_first: bool) -> SparseBlocks | None:
    """Encode a weight of a convolution or matrix product; None if it would hardly be smaller.

    ``inputs_first`` says that its first axis has the inputs, and the second one the outputs.
    """
    if array.size == 0 or float((array != 0).mean()) > _LARGEST:
        return None
    sparse = encode(_as_rows(array, inputs_first=inputs_first))
    return sparse if sparse.nbytes < min(_LARGEST * array.nbytes, array.nbytes - _LEAST_SAVED) else None


def encode(rows: "np.ndarray") -> SparseBlocks:
    """Encode a weight ``[rows, positions, columns]`` with the block size that takes the fewest bytes."""
    import numpy as np

    best: tuple[int, int, int] | None = None
    for height in (each for each in _HEIGHTS if rows.shape[0] % each == 0):
        for width in (each for each in _WIDTHS if rows.shape[2] % each == 0):
            places = np.flatnonzero(_occupied(rows, height, width))
            count = max(1, len(places) + _fillers(places))
            size = count * (height * width * rows.dtype.itemsize + 1)
            if best is None or size < best[0]:
                best = size, height, width
    if best is None:
        raise ValueError("a weight without elements")
    return with_blocks(rows, *best[1:])


def with_blocks(rows: "np.ndarray", height: int, width: int) -> SparseBlocks:
    """Encode a weight ``[rows, positions, columns]``, of which blocks of this size are not zero or stored nevertheless.

    A block of zeros is stored where the next one is farther away than a byte can say, and if all are zero.
    """
    import numpy as np

    grid = rows.shape[0] // height, rows.shape[1], rows.shape[2] // width
    places: list[int] = []
    last = 0
    for place in np.flatnonzero(_occupied(rows, height, width)).tolist():
        while place - last > _FARTHEST:
            last += _FARTHEST
            places.append(last)
        places.append(place)
        last = place
    places = places or [0]
    split = rows.reshape(grid[0], height, grid[1], grid[2], width).transpose(0, 2, 3, 1, 4)
    blocks = np.ascontiguousarray(split.reshape(-1, height, width)[places])
    return SparseBlocks(blocks, np.diff(places, prepend=0).astype(np.uint8), grid)


def _occupied(rows: "np.ndarray", height: int, width: int) -> "np.ndarray":
    """Which blocks are not zero: bool, ``[rows of blocks, positions, columns of blocks]``."""
    r, p, c = rows.shape
    found: np.ndarray = (rows != 0).reshape(r // height, height, p, c // width, width).any((1, 4))
    return found


def _fillers(places: "np.ndarray") -> int:
    import numpy as np

    gaps = np.diff(places, prepend=0)
    return int(np.maximum(0, -(-gaps // _FARTHEST) - 1).sum())


def _as_rows(array: "np.ndarray", *, inputs_first: bool) -> "np.ndarray":
    """Rearrange a weight as ``[rows, positions, columns]``; a matrix product of several matrices has no positions."""
    import numpy as np

    rows = array.swapaxes(0, 1) if inputs_first else array
    split = rows.reshape(rows.shape[0], rows.shape[1], -1)
    return np.ascontiguousarray(split.transpose(0, 2, 1))
