"""Weights of one or two bits, and activations of one, trained through rounding as through the identity."""

import torch
from torch import nn

from edgepack.torchnet.learned_steps import IntegerWeight
from edgepack.torchnet.stored import StoredInput, StoredWeight

_THRESHOLD = (
    0.7  # of the mean absolute weight: the best for a normal or uniform distribution (TWN, section 2.2)
)
_WINDOW = 1.0  # gradients pass to weights up to this size, as in XNOR-Net
_PASSED = 2.0  # standard deviations around the threshold in which gradients pass to activations


class SignWeight(StoredWeight):
    """``scale * sign(weight)``, with the mean absolute weight of each output channel as its scale.

    XNOR-Net: Rastegari et al. 2016, arXiv:1603.05279.
    """

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def levels(self, original: torch.Tensor) -> torch.Tensor:
        """Return -1 and 1, in the shape and type of the weight."""
        return torch.where(original < 0, -1.0, 1.0)

    def scale(self, original: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """Return the scale with the smallest squared error for the levels, of 1 where it is not along the axis."""
        axes = [axis for axis in range(original.dim()) if axis != self.axis]
        used = levels.abs().sum(axes, keepdim=True).clamp_min(1)
        return (original * levels).sum(axes, keepdim=True) / used

    def forward(self, original: torch.Tensor) -> torch.Tensor:
        """Return the weight as levels times their scale, of the same shape."""
        levels = self.levels(original.detach())
        passed = original.clamp(-_WINDOW, _WINDOW)
        return self.scale(original, levels) * (levels + (passed - passed.detach()))

    def stored(self, original: torch.Tensor) -> nn.Module:
        """Return the weight as int8 levels and their scale; the file holds 1 or 2 bits of each."""
        levels = self.levels(original)
        scale = self.scale(original, levels).flatten()
        return IntegerWeight(levels.to(torch.int8), scale, self.axis, packed=True)


class TernaryWeight(SignWeight):
    """``scale * sign(weight)``, or 0 for small weights; zeros stay zero (TWN: Li et al. 2016, arXiv:1605.04711)."""

    def levels(self, original: torch.Tensor) -> torch.Tensor:
        """Return -1, 0 and 1."""
        axes = [axis for axis in range(original.dim()) if axis != self.axis]
        threshold = _THRESHOLD * original.abs().mean(axes, keepdim=True)
        return torch.where(original.abs() > threshold, original.sign(), 0.0)


class SignInput(StoredInput):
    """Activations with two values, below and above a learned threshold.

    After a ReLU all signs would be equal; the threshold is learned as in ReActNet (Liu et al. 2020, arXiv:2003.03488).
    """

    window: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(()))
        self.middle = nn.Parameter(torch.zeros(()))
        self.reach = nn.Parameter(torch.ones(()))
        self.register_buffer("window", torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``middle - reach`` where ``x`` is up to the threshold, else ``middle + reach``."""
        centred = x - self.threshold
        signs = torch.where(centred.detach() > 0, 1.0, -1.0)
        passed = (centred / self.window).clamp(-1, 1)
        return self.middle + self.reach * (signs + (passed - passed.detach()))

    def fit(self, values: torch.Tensor) -> None:
        """Set the threshold to the mean of typical ``values`` ``[N]``, and the two values to the means of either side."""
        threshold = values.mean()
        above = values > threshold
        high = values[above].mean() if above.any() else threshold
        low = values[~above].mean() if not above.all() else threshold
        with torch.no_grad():
            self.threshold.copy_(threshold)
            self.middle.copy_((high + low) / 2)
            self.reach.copy_((high - low) / 2)
            self.window.copy_((_PASSED * values.std(correction=0)).clamp_min(1e-6))

    def stored(self) -> nn.Module:
        """Return the same with constants."""
        low, high = self.middle - self.reach, self.middle + self.reach
        return TwoValues(self.threshold.detach(), low.detach(), high.detach())


class TwoValues(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """One of two constants, below and above a threshold."""

    threshold: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, threshold: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("threshold", threshold)
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one of the values for each element of ``x``."""
        return torch.where(x - self.threshold > 0, self.high, self.low)
