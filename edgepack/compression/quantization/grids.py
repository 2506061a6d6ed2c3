"""Grids of integers for weights: scales and zero points per channel, per block or per tensor, and rounding to them.

A weight ``w`` is stored as ``q`` with ``w ≈ (q - zero) * scale``, as ONNX's DequantizeLinear has it. Ranges are those
of the values, or minimise the squared error (Nagel et al. 2021, arXiv:2106.08295, section 3.1).
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

Fit = Literal["minmax", "mse"]
_SHRINK = 40  # steps of the search for the range with the least squared error
_NARROWEST = 0.3  # of the full range
_WIDEST = 8  # bits: the largest integer of a symmetric grid has the same size with either sign
_TOP = 128  # exponent of the largest float32
_SCALE_BITS = 8  # significant ones of a scale, as in bfloat16: stored, it takes about a byte


@dataclass(frozen=True)
class Grid:
    """Integers from ``low`` to ``high``, with a scale and a zero point for each group of elements.

    Attributes:
        bits: of an element.
        low: smallest integer.
        high: largest integer.
        scale: float32, ``[groups]``, with 8 significant bits.
        zero: int64, ``[groups]``; 0 if the grid is symmetric.
        axis: of the channels, each of which is a group; None for one group.
        block: elements in a group along the weight's rows; 0 if a group is a whole channel.
    """

    bits: int
    low: int
    high: int
    scale: "np.ndarray"
    zero: "np.ndarray"
    axis: int | None
    block: int = 0

    @property
    def signed(self) -> bool:
        """Whether elements are of a signed type."""
        return self.low < 0

    @property
    def dtype(self) -> str:
        """Name of the element type: ``int8``."""
        return f"{'int' if self.signed else 'uint'}{self.bits}"

    def rounded(self, groups: "np.ndarray") -> "np.ndarray":
        """Return the integers nearest to ``groups``, ``[groups, elements]``, as int64."""
        import numpy as np

        steps = np.rint(groups / self.scale[:, None]) + self.zero[:, None]
        found: np.ndarray = np.clip(steps, self.low, self.high).astype(np.int64)
        return found

    def values(self, integers: "np.ndarray") -> "np.ndarray":
        """Return what ``integers``, ``[groups, elements]``, stand for, as float32."""
        import numpy as np

        found: np.ndarray = ((integers - self.zero[:, None]) * self.scale[:, None]).astype(np.float32)
        return found


def limits(bits: int, *, symmetric: bool) -> tuple[int, int]:
    """Return the smallest and the largest integer of a grid.

    A symmetric 8-bit grid leaves out -128, so that products of pairs stay within what all integer kernels sum exactly.
    """
    half = 1 << (bits - 1)
    if not symmetric:
        return 0, 2 * half - 1
    return (1 - half if bits == _WIDEST else -half), half - 1


def fit_grid(groups: "np.ndarray", bits: int, *, symmetric: bool, fit: Fit = "minmax") -> Grid:
    """Return the grid for ``groups``, ``[groups, elements]``; ``axis`` and ``block`` are left for the caller."""
    import numpy as np

    low, high = limits(bits, symmetric=symmetric)
    smallest = np.minimum(groups.min(axis=1), 0).astype(np.float64)
    largest = np.maximum(groups.max(axis=1), 0).astype(np.float64)
    best = _grid(smallest, largest, bits, low, high)
    if fit == "minmax":
        return best
    least = _error(best, groups)
    for share in np.linspace(1, _NARROWEST, _SHRINK)[1:]:
        tried = _grid(smallest * share, largest * share, bits, low, high)
        error = _error(tried, groups)
        better = error < least
        least = np.where(better, error, least)
        best = replace(
            best,
            scale=np.where(better, tried.scale, best.scale),
            zero=np.where(better, tried.zero, best.zero),
        )
    return best


def _grid(smallest: "np.ndarray", largest: "np.ndarray", bits: int, low: int, high: int) -> Grid:
    import numpy as np

    if low < 0:
        scale = np.maximum(np.abs(smallest) / max(-low, high), largest / high)
        if low == -high:
            scale = np.maximum(np.abs(smallest), largest) / high
        scale, zero = _positive(scale), np.zeros(len(smallest), np.int64)
    else:
        scale = _positive((largest - smallest) / (high - low))
        zero = np.clip(np.rint(-smallest / scale), low, high).astype(np.int64)
    return Grid(bits, low, high, scale, zero, None)


def short_scales(scale: "np.ndarray") -> "np.ndarray":
    """Return scales, float32, with few significant bits, the nearest ones; the largest are rounded down."""
    import numpy as np

    share, exponent = np.frexp(scale)  # share in [0.5, 1)
    top = np.where(exponent < _TOP, np.inf, (1 << _SCALE_BITS) - 1)
    steps = np.minimum(np.rint(np.ldexp(share, _SCALE_BITS)), top)
    found: np.ndarray = np.ldexp(steps, exponent - _SCALE_BITS).astype(np.float32)
    return found


def _positive(scale: "np.ndarray") -> "np.ndarray":
    """Return short scales; those of groups of zeros, and of numbers too small for float32, are 1."""
    import numpy as np

    narrow = short_scales(scale)
    return np.where(narrow > np.finfo(np.float32).tiny, narrow, np.float32(1))


def _error(grid: Grid, groups: "np.ndarray") -> "np.ndarray":
    import numpy as np

    found: np.ndarray = np.square(grid.values(grid.rounded(groups)) - groups, dtype=np.float64).sum(axis=1)
    return found


def grouped(weight: "np.ndarray", axis: int | None, rows: int | None = None, block: int = 0) -> "np.ndarray":
    """Return a weight as ``[groups, elements]``: per channel of ``axis``, per tensor, or per ``block`` along ``rows``.

    The last block of a row is padded with zeros.
    """
    import numpy as np

    if axis is None:
        return weight.reshape(1, -1)
    if not block or rows is None:
        return np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    along = np.moveaxis(weight, rows, -1)
    count = math.ceil(along.shape[-1] / block)
    padding = [(0, 0)] * (along.ndim - 1) + [(0, count * block - along.shape[-1])]
    return np.pad(along, padding).reshape(-1, block)


def ungrouped(
    groups: "np.ndarray",
    shape: tuple[int, ...],
    axis: int | None,
    rows: int | None = None,
    block: int = 0,
) -> "np.ndarray":
    """Return ``[groups, elements]`` in the weight's ``shape``: the inverse of :func:`grouped`."""
    import numpy as np

    if axis is None:
        return groups.reshape(shape)
    if not block or rows is None:
        moved = (shape[axis], *shape[:axis], *shape[axis + 1 :])
        return np.moveaxis(groups.reshape(moved), 0, axis)
    others = shape[:rows] + shape[rows + 1 :]
    return np.moveaxis(groups.reshape(*others, -1)[..., : shape[rows]], -1, rows)
