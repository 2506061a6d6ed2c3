"""Quantizers with learned step sizes (LSQ: Esser et al. 2020, arXiv:1902.08153).

A step size is trained like a weight: the gradient passes through rounding as through the identity. It is kept as a
logarithm (as in Jain et al. 2020, arXiv:1903.08066), because an update by Adam has about the size of the learning rate
whatever the gradient: of a logarithm this is a small relative change, of a step of 0.001 it would be many times its size.
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from edgepack.torchnet.stored import StoredInput, StoredPart, StoredWeight, WeightDecoder, levels_part

if TYPE_CHECKING:
    from collections.abc import Sequence

_TINY = 1e-8  # smallest step: weights that are all zero have no range
_SHARES = tuple(share / 40 for share in range(12, 41))  # of the largest value, tried as the range
INPUT_LEVELS = 255  # uint8
_PACKED = 2  # bits, at most, of a weight whose integers are packed into bytes


def weight_levels(bits: int) -> int:
    """The largest integer of a weight of ``bits``; the smallest is its negative, so that zero and signs are exact."""
    return (1 << (bits - 1)) - 1


class QuantizedWeight(StoredWeight):
    """Symmetric integers with one learned step per index of ``axis``."""

    def __init__(self, bits: int, axis: int, size: int) -> None:
        super().__init__()
        self.bits, self.axis = bits, axis
        self.log_step = nn.Parameter(torch.zeros(size))

    def forward(self, original: torch.Tensor) -> torch.Tensor:
        """Return the weight as integers times their steps, of the same shape."""
        levels = weight_levels(self.bits)
        scale = 1 / math.sqrt(max(original.numel() // self.log_step.numel(), 1) * levels)
        steps = _spread(_step(self.log_step, scale), original, self.axis)
        return _rounded(original / steps, -levels, levels) * steps

    def fit(self, original: torch.Tensor) -> None:
        """Set the steps to those with the smallest squared error, for each of several shares of the largest weight."""
        levels = weight_levels(self.bits)
        rows = original.detach().transpose(0, self.axis).flatten(1)
        step = fitted_step(rows, -levels, levels)
        with torch.no_grad():
            self.log_step.copy_(step.log())

    def integers(self, original: torch.Tensor) -> torch.Tensor:
        """Return the weight's integers, as int8 of its shape."""
        levels = weight_levels(self.bits)
        steps = _spread(self.log_step.exp(), original, self.axis)
        return (original / steps).clamp(-levels, levels).round().to(torch.int8)

    def stored(self, original: torch.Tensor) -> nn.Module:
        """Return the weight as int8 and its steps."""
        steps = self.log_step.detach().exp()
        return IntegerWeight(self.integers(original), steps, self.axis, packed=self.bits <= _PACKED)


class IntegerWeight(WeightDecoder):
    """A weight of integers; exported as DequantizeLinear of a constant.

    ``packed`` exports the product of integers and scale, of which the file holds 1 or 2 bits each: there is no type of so
    few bits before opset 25.
    """

    elements: torch.Tensor
    scale: torch.Tensor

    def __init__(self, elements: torch.Tensor, scale: torch.Tensor, axis: int, *, packed: bool) -> None:
        super().__init__()
        self.axis, self.packed = axis, packed
        self.register_buffer("elements", elements)
        self.register_buffer("scale", _spread(scale, elements, axis) if packed else scale)

    def forward(self, _original: torch.Tensor) -> torch.Tensor:
        """Return the decoded weight."""
        if torch.onnx.is_in_onnx_export() and not self.packed:
            return _onnx("DequantizeLinear", (self.elements, self.scale), self.scale.dtype, axis=self.axis)
        scale = self.scale if self.packed else _spread(self.scale, self.elements, self.axis)
        return self.elements.to(scale.dtype) * scale

    def parts(self, *originals: torch.Tensor) -> tuple[StoredPart, ...]:
        """Return the integers and their scale."""
        del originals
        elements = levels_part(self.elements) if self.packed else StoredPart(self.elements)
        return elements, StoredPart(self.scale)


class QuantizedInput(StoredInput):
    """uint8 activations with a learned step and a zero point that is fixed by the calibrated range."""

    zero: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.log_step = nn.Parameter(torch.zeros(()))
        self.register_buffer("zero", torch.zeros((), dtype=torch.uint8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` rounded to multiples of the step, within the range."""
        zero = self.zero.to(x.dtype)
        scale = 1 / math.sqrt(max(x[:1].numel(), 1) * INPUT_LEVELS)
        step = _step(self.log_step, scale)
        return _rounded(x / step, -zero, INPUT_LEVELS - zero) * step

    def fit(self, values: torch.Tensor) -> None:
        """Set step and zero point for typical ``values`` ``[N]`` by the smallest squared error; 0 is always exact."""
        low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
        zero = round(-low / max(high - low, _TINY) * INPUT_LEVELS)
        step = fitted_step(values[None], -zero, INPUT_LEVELS - zero)
        with torch.no_grad():
            self.log_step.copy_(step[0].log())
            self.zero.fill_(zero)

    def stored(self) -> nn.Module:
        """Return the same with constants."""
        return IntegerInput(self.log_step.detach().exp(), self.zero.clone())


class IntegerInput(nn.Module):  # type: ignore[misc] # torch is untyped here
    """Activations as uint8; exported as QuantizeLinear and DequantizeLinear."""

    scale: torch.Tensor
    zero: torch.Tensor

    def __init__(self, scale: torch.Tensor, zero: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("zero", zero)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` rounded."""
        if torch.onnx.is_in_onnx_export():
            integers = _onnx("QuantizeLinear", (x, self.scale, self.zero), torch.uint8)
            return _onnx("DequantizeLinear", (integers, self.scale, self.zero), x.dtype)
        zero = self.zero.to(x.dtype)
        return (x / self.scale).round().clamp(-zero, INPUT_LEVELS - zero) * self.scale


def fitted_step(rows: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Return for each row of ``[C, N]`` the step for integers ``low`` to ``high`` with the smallest squared error."""
    span = torch.maximum(
        rows.amax(1) / high if high > 0 else rows.new_zeros(len(rows)),
        rows.amin(1) / low if low < 0 else rows.new_zeros(len(rows)),
    ).clamp_min(_TINY)
    best, least = span, torch.full_like(span, math.inf)
    for share in _SHARES:
        step = (span * share).clamp_min(_TINY)
        rounded = (rows / step[:, None]).round().clamp(low, high) * step[:, None]
        error = (rounded - rows).square().sum(1)
        best, least = torch.where(error <= least, step, best), torch.minimum(error, least)
    return best


def step_parameters(module: nn.Module) -> "Sequence[nn.Parameter]":
    """Return the step sizes in ``module``, each once."""
    return [each.log_step for each in module.modules() if isinstance(each, QuantizedWeight | QuantizedInput)]


def _step(log_step: torch.Tensor, scale: float) -> torch.Tensor:
    """Return the step; its gradient is multiplied by ``scale``, which balances it with the weights' (section 2.2)."""
    step = log_step.exp()
    if step.requires_grad:
        step.register_hook(lambda gradient: gradient * scale)
    return step


def _spread(steps: torch.Tensor, like: torch.Tensor, axis: int) -> torch.Tensor:
    return steps.reshape([-1 if each == axis else 1 for each in range(like.dim())])


def _rounded(value: torch.Tensor, low: torch.Tensor | float, high: torch.Tensor | float) -> torch.Tensor:
    """Return integers; the gradient is that of clamping alone."""
    value = value.clamp(low, high)
    return value + (value.round() - value).detach()


def _onnx(
    operator: str, inputs: "Sequence[torch.Tensor]", dtype: torch.dtype, **attributes: int
) -> torch.Tensor:
    """Return the placeholder of a node with the shape of its first input, while exporting."""
    return torch.onnx.ops.symbolic(operator, inputs, attributes, dtype=dtype, shape=inputs[0].shape)
