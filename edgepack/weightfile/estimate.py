"""About how many bytes weights take in a weights file, without coding them."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from edgepack.spec.encoding import BundledWeight
from edgepack.weightfile.frequencies import SMALL, fewest_bits
from edgepack.weightfile.worth import worth_a_copy

if TYPE_CHECKING:
    import numpy as np

_HEAD = 48  # bytes of the file's header
_OF_ARRAY, _OF_BLOCK, _OF_PLANE = 6, 8, 8  # bytes of the index, and of what surrounds a code


def estimated_sizes(weights: Sequence[BundledWeight]) -> tuple[int, int]:
    """Return about how many bytes weights take in a bundle, entropy coded, and in memory if all are decoded."""
    arrays = _distinct(array for weight in weights for array in weight.in_file)
    groups: dict[object, list[np.ndarray]] = {}
    for number, array in enumerate(arrays):
        groups.setdefault(number if array.nbytes > SMALL else str(array.dtype), []).append(array)
    blocks = sum(_OF_BLOCK + _block_bytes(each) for each in groups.values())
    size = _HEAD + _OF_ARRAY * len(arrays) + blocks if arrays else 0
    return math.ceil(size), sum(weight.decoded.nbytes for weight in weights)


def _distinct(arrays: "Iterable[np.ndarray]") -> "list[np.ndarray]":
    """Leave out small arrays that are equal to another: a file holds them once."""
    found: dict[object, np.ndarray] = {}
    for number, array in enumerate(arrays):
        small = array.nbytes <= SMALL
        found.setdefault((str(array.dtype), array.shape, array.tobytes()) if small else number, array)
    return list(found.values())


def _block_bytes(arrays: "Sequence[np.ndarray]") -> float:
    """The bytes of arrays of one type, coded byte by byte: the first bytes of all elements, the second ones, and so on."""
    import numpy as np

    width = arrays[0].dtype.itemsize
    planes = np.concatenate([np.ascontiguousarray(each).view(np.uint8).reshape(-1, width) for each in arrays])
    size = len(planes)
    counts = (np.bincount(planes[:, place], minlength=256) for place in range(width) if size)
    coded = sum(min(size, _OF_PLANE + fewest_bits(each) / 8) for each in counts)
    return coded if worth_a_copy(coded, size * width, width) else size * width
