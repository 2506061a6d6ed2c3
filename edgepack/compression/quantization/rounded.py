"""A weight on its way to integers: its grid, its integers, what they cost and what they lose."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from edgepack.compression.quantization.encoding import Form, form_of, stored_bytes
from edgepack.compression.quantization.grids import Fit, Grid, fit_grid
from edgepack.compression.quantization.layers import WeightConstant
from edgepack.compression.quantization.rounding import compensated, learned, output_error
from edgepack.compression.quantization.statistics import Moments, matrices

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class RoundedWeight:
    """A weight as integers.

    Attributes:
        weight: the weight.
        array: its values, float32.
        form: how it is divided into groups.
        grid: scales and zero points of the groups.
        integers: ``[groups, elements]``.
    """

    weight: WeightConstant
    array: "np.ndarray"
    form: Form
    grid: Grid
    integers: "np.ndarray"

    @classmethod
    def nearest(
        cls,
        weight: WeightConstant,
        array: "np.ndarray",
        bits: int,
        *,
        symmetric: bool,
        fit: Fit,
        block: int = 0,
    ) -> Self:
        """Return the weight rounded to the nearest integers, with scales per channel or per ``block``."""
        form = form_of(weight, array.shape, block, bits=bits)
        return cls.on(weight, array, form, bits, symmetric=symmetric, fit=fit)

    @classmethod
    def on(
        cls, weight: WeightConstant, array: "np.ndarray", form: Form, bits: int, *, symmetric: bool, fit: Fit
    ) -> Self:
        """Return the weight rounded to the nearest integers, with scales as ``form`` has them."""
        groups = form.groups(array)
        grid = replace(fit_grid(groups, bits, symmetric=symmetric, fit=fit), axis=form.axis, block=form.block)
        return cls(weight, array, form, grid, grid.rounded(groups))

    @property
    def decoded(self) -> "np.ndarray":
        """What the integers stand for, in the weight's shape."""
        return self.form.restored(self.grid.values(self.integers)).reshape(self.array.shape)

    @property
    def bytes(self) -> int:
        """Bytes of the integers, scales and zero points."""
        return stored_bytes(self.grid, self.form)

    @property
    def sqnr_db(self) -> float | None:
        """Signal-to-noise ratio of the weights in dB; None if nothing is lost, or the weights are zeros."""
        import numpy as np

        noise = float(np.square(self.decoded - self.array, dtype=np.float64).sum())
        signal = float(np.square(self.array, dtype=np.float64).sum())
        return decibels(signal, noise)

    def output_sqnr_db(self, measured: Moments) -> float | None:
        """As ``sqnr_db``, of the layer's outputs."""
        signal = output_error(matrices(self.weight, self.array), measured)
        noise = output_error(matrices(self.weight, self.decoded - self.array), measured)
        return decibels(signal, noise)

    def compensated(self, measured: Moments) -> Self:
        """Return the weight with each input rounded after the error of those before it."""
        integers = compensated(self.array, self.weight, self.grid, self.form, measured)
        return replace(self, integers=integers)

    def learned(self, measured: Moments, iterations: int) -> Self:
        """Return the weight with each element rounded up or down, as learned from the layer's outputs."""
        integers = learned(self.array, self.weight, self.grid, self.form, measured, iterations=iterations)
        return replace(self, integers=integers)

    def shift(self, measured: Moments) -> "np.ndarray":
        """Return by how much rounding moves the mean of each output channel."""
        import numpy as np

        difference = matrices(self.weight, self.decoded.astype(np.float64) - self.array)
        found: np.ndarray = np.matmul(difference, measured.first[:, :, None]).reshape(-1)
        return found


def decibels(signal: float, noise: float) -> float | None:
    """Return the ratio in dB, rounded; None if there is no signal or no noise."""
    return round(10 * math.log10(signal / noise), 2) if signal > 0 and noise > 0 else None
