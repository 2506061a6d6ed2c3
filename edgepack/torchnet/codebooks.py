"""Weights from a table: shared values, shared vectors, and values shared by a hash of positions."""

import math

import torch
from torch import nn

from edgepack.torchnet.encodable import StoredForm, code_dtype
from edgepack.torchnet.stored import StoredPart, StoredWeight, WeightDecoder, levels_part

PRIME = (1 << 31) - 1
"""The modulus of hashes: products of two numbers below it fit into int64."""


class SharedValues(StoredForm):
    """``table[codes]``, elementwise; with ``zero``, code 0 is the number 0, which is not trained."""

    codes: torch.Tensor
    origin: torch.Tensor

    def __init__(self, codes: torch.Tensor, entries: int, *, zero: bool) -> None:
        super().__init__()
        self.entries, self.zero = entries, zero
        self.register_buffer("codes", codes.to(code_dtype(entries)))
        self.register_buffer("origin", torch.zeros(1), persistent=False)

    def forward(self, table: torch.Tensor) -> torch.Tensor:
        """Return the weight of a table ``[entries]``, or ``[entries - 1]`` without the zero."""
        return _rows(self._whole(table), self.codes).reshape(self.codes.shape)

    def _whole(self, table: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.origin, table]) if self.zero else table

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        """Return an empty table for a dense weight."""
        return weight.new_zeros(self.entries - self.zero)

    def parts(self, *originals: torch.Tensor) -> tuple[StoredPart, ...]:
        """Return codes and table."""
        (table,) = originals
        return StoredPart(self.codes, self.entries), StoredPart(self._whole(table))


class SharedLevels(StoredForm, StoredWeight):
    """Integers from a table of a few, times one learned step per index of ``axis``; code 0 is 0 with ``zero``.

    The table is trained through rounding as through the identity (straight-through).
    """

    codes: torch.Tensor

    def __init__(self, codes: torch.Tensor, entries: int, *, zero: bool, axis: int, levels: int) -> None:
        super().__init__()
        self.entries, self.zero, self.axis, self.levels = entries, zero, axis, levels
        self.register_buffer("codes", codes.to(code_dtype(entries)))
        self.log_step = nn.Parameter(torch.zeros(codes.shape[axis]))

    def forward(self, table: torch.Tensor) -> torch.Tensor:
        """Return the weight of a table ``[entries]``, or ``[entries - 1]`` without the zero."""
        table = table.clamp(-self.levels, self.levels)
        whole = self._whole(table + (table.round() - table).detach())
        integers = _rows(whole, self.codes).reshape(self.codes.shape)
        steps = self.log_step.exp()
        return integers * steps.reshape([-1 if each == self.axis else 1 for each in range(integers.dim())])

    def _whole(self, table: torch.Tensor) -> torch.Tensor:
        return torch.cat([table.new_zeros(1), table]) if self.zero else table

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        """Return an empty table for a dense weight."""
        return weight.new_zeros(self.entries - self.zero)

    def stored(self, original: torch.Tensor) -> "IntegerLevels":
        """Return the same with the integers of the table."""
        table = self._whole(original.clamp(-self.levels, self.levels).round()).to(torch.int8)
        return IntegerLevels(self.codes, table, self.log_step.detach().exp(), self.axis)

    def parts(self, *originals: torch.Tensor) -> tuple[StoredPart, ...]:
        """Return codes, table and steps."""
        (table,) = originals
        return self.stored(table).parts()


class IntegerLevels(WeightDecoder):
    """A weight of integers from a table; exported as DequantizeLinear of a lookup."""

    codes: torch.Tensor
    table: torch.Tensor
    scale: torch.Tensor

    def __init__(self, codes: torch.Tensor, table: torch.Tensor, scale: torch.Tensor, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.register_buffer("codes", codes)
        self.register_buffer("table", table)
        self.register_buffer("scale", scale)

    def forward(self, _original: torch.Tensor) -> torch.Tensor:
        """Return the decoded weight."""
        integers = _rows(self.table, self.codes).reshape(self.codes.shape)
        if torch.onnx.is_in_onnx_export():
            parts, attributes = (integers, self.scale), {"axis": self.axis}
            return torch.onnx.ops.symbolic(
                "DequantizeLinear", parts, attributes, dtype=self.scale.dtype, shape=integers.shape
            )
        return integers * self.scale.reshape(
            [-1 if each == self.axis else 1 for each in range(integers.dim())]
        )

    def parts(self, *originals: torch.Tensor) -> tuple[StoredPart, ...]:
        """Return codes, table and steps."""
        del originals
        return StoredPart(self.codes, len(self.table)), StoredPart(self.table), StoredPart(self.scale)


class SharedVectors(StoredForm):
    """``table[codes]`` for consecutive weights, plus a mean per row; code 0 is a vector of zeros with ``zero``."""

    codes: torch.Tensor
    origin: torch.Tensor

    def __init__(
        self, codes: torch.Tensor, table: tuple[int, int], shape: tuple[int, ...], *, zero: bool, means: bool
    ) -> None:
        super().__init__()
        self.table, self.shape, self.zero, self.means = table, shape, zero, means
        self.register_buffer("codes", codes.to(code_dtype(table[0])))
        self.register_buffer("origin", torch.zeros(1, table[1]), persistent=False)

    def forward(self, table: torch.Tensor, means: torch.Tensor | None = None) -> torch.Tensor:
        """Return the weight of a table ``[entries, size]`` (one entry less with ``zero``) and means ``[rows, 1]``."""
        weight = _rows(self._whole(table), self.codes)
        if means is not None:
            weight = weight.reshape(self.shape[0], -1) + means
        return weight.reshape(self.shape)

    def right_inverse(self, weight: torch.Tensor) -> "torch.Tensor | tuple[torch.Tensor, ...]":
        """Return an empty table, and means, for a dense weight."""
        table = weight.new_zeros(self.table[0] - self.zero, self.table[1])
        return (table, weight.new_zeros(self.shape[0], 1)) if self.means else table

    def _whole(self, table: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.origin, table]) if self.zero else table

    def parts(self, *originals: torch.Tensor) -> tuple[StoredPart, ...]:
        """Return codes, table and means."""
        table, *means = originals
        return StoredPart(self.codes, self.table[0]), StoredPart(self._whole(table)), *map(StoredPart, means)


class HashedValues(StoredForm):
    """``table[hash(position)]`` with a sign that the hash decides, too (Chen et al. 2015, arXiv:1504.04788).

    The hash is a polynomial of the position modulo a prime, with ``factors`` as its coefficients (Carter and Wegman
    1981): four values of it are independent for a random choice of four factors.
    """

    def __init__(self, entries: int, shape: tuple[int, ...], factors: tuple[int, ...]) -> None:
        super().__init__()
        self.entries, self.shape, self.factors = entries, shape, factors
        self.register_buffer("index", self.computed(), persistent=False)

    def computed(self) -> torch.Tensor:
        """Return the hash of each position, int64 ``[weights]``: an index into ``[table, -table]``."""
        positions = torch.arange(math.prod(self.shape))
        number = positions * self.factors[0] + self.factors[1]
        for factor in self.factors[2:]:
            number = number % PRIME * positions + factor
        return number % PRIME % (2 * self.entries)

    def forward(self, table: torch.Tensor) -> torch.Tensor:
        """Return the weight of a table ``[entries]``."""
        index = self.computed() if torch.onnx.is_in_onnx_export() else self.index
        return _rows(torch.cat([table, -table]), index).reshape(self.shape)

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the table that is closest to a dense weight: the mean of all weights of an entry, with their signs."""
        index = self.index
        signed = torch.where(index < self.entries, weight.flatten(), -weight.flatten())
        entries = index % self.entries
        counts = torch.bincount(entries, minlength=self.entries).clamp_min(1)
        sums = weight.new_zeros(self.entries).index_add_(0, entries, signed)
        return sums / counts

    def parts(self, *originals: torch.Tensor) -> tuple[StoredPart, ...]:
        """Return the table."""
        return tuple(map(StoredPart, originals))


class UnitPulses(StoredForm):
    """Vectors of a few unit pulses each, times a scale (Fischer 1986)."""

    pulses: torch.Tensor

    def __init__(self, pulses: torch.Tensor, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("pulses", pulses.to(torch.int8))

    def forward(self, scale: torch.Tensor) -> torch.Tensor:
        """Return the weight for scales ``[vectors, 1]``."""
        return (self.pulses.to(scale.dtype) * scale).reshape(self.shape)

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        """Return empty scales for a dense weight."""
        return weight.new_zeros(len(self.pulses), 1)

    def parts(self, *originals: torch.Tensor) -> tuple[StoredPart, ...]:
        """Return pulses and scales."""
        return levels_part(self.pulses), *map(StoredPart, originals)


def _rows(table: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Return the rows of a table for all codes, flat; ``table[codes]`` is exported as more nodes."""
    return table.index_select(0, codes.long().flatten())
