"""Rounding of weights that keeps the outputs of a layer, measured by the moments of its input.

Rounding each weight to the nearest integer is not the best for the layer's output. ``compensated`` rounds one input
after the other, and adjusts the weights of those that follow to make up for the error (Frantar et al. 2022, GPTQ,
arXiv:2210.17323). ``learned`` learns for each weight whether it is rounded up or down (Nagel et al. 2020, AdaRound,
arXiv:2004.10568); the reconstruction error is computed from the moments, over all samples at once.
"""

from typing import TYPE_CHECKING, Any

from edgepack.compression.quantization.encoding import Form
from edgepack.compression.quantization.grids import Grid
from edgepack.compression.quantization.layers import WeightConstant
from edgepack.compression.quantization.statistics import Moments, from_matrices, matrices

if TYPE_CHECKING:
    import numpy as np
    import torch

_DAMPING = 0.01  # of the mean second moment, added to each: GPTQ's default
_STRETCH = (-0.1, 1.1)  # of the sigmoid, so that it reaches 0 and 1: AdaRound's zeta and gamma
_BETA = (20.0, 2.0)  # of the regulariser that pushes each weight to one of its neighbours, annealed
_REGULARISED = 0.01  # its weight, relative to the error of rounding to the nearest
_WARM_UP = 0.2  # share of the iterations without it
_RATE = 0.02


def output_error(difference: "np.ndarray", moments: Moments) -> float:
    """Return the mean squared error of a layer's outputs, for a ``difference`` of its weights.

    ``difference`` is ``[groups, outputs, inputs]``; the error is summed over the outputs.
    """
    import numpy as np

    wide = difference.astype(np.float64)
    return float((np.matmul(wide, moments.second) * wide).sum())


def compensated(
    array: "np.ndarray", weight: WeightConstant, grid: Grid, form: Form, moments: Moments
) -> "np.ndarray":
    """Return integers ``[groups of the grid, elements]``, rounded input by input with the rest adjusted."""
    import numpy as np

    original = matrices(weight, array)
    scale, zero = _spread(grid, form, weight, array.shape)
    result = np.empty(original.shape, np.int64)
    for group, (rows, second) in enumerate(zip(original, moments.second, strict=True)):
        result[group] = _compensated(rows.astype(np.float64), second, scale[group], zero[group], grid)
    return form.groups(from_matrices(weight, result, array.shape))


def _compensated(
    rows: "np.ndarray", second: "np.ndarray", scale: "np.ndarray", zero: "np.ndarray", grid: Grid
) -> "np.ndarray":
    """Round ``[outputs, inputs]``, which is changed."""
    import numpy as np

    second = second.copy()
    unused = np.diag(second) <= 0
    second[unused, unused] = 1
    np.fill_diagonal(second, np.diag(second) + _DAMPING * np.diag(second).mean())
    # Upper factor of the inverse: row i has the adjustment of the inputs after i.
    factor = np.linalg.cholesky(np.linalg.inv(second)).T
    integers = np.empty(rows.shape, np.int64)
    block = 128
    for start in range(0, rows.shape[1], block):
        end = min(start + block, rows.shape[1])
        errors = np.zeros((len(rows), end - start))
        for i in range(start, end):
            steps = np.rint(rows[:, i] / scale[:, i]) + zero[:, i]
            integers[:, i] = np.clip(steps, grid.low, grid.high)
            value = (integers[:, i] - zero[:, i]) * scale[:, i]
            error = errors[:, i - start] = (rows[:, i] - value) / factor[i, i]
            rows[:, i:end] -= np.outer(error, factor[i, i:end])
        rows[:, end:] -= errors @ factor[start:end, end:]
    return integers


def learned(
    array: "np.ndarray", weight: WeightConstant, grid: Grid, form: Form, moments: Moments, *, iterations: int
) -> "np.ndarray":
    """Return integers ``[groups of the grid, elements]``, each rounded up or down; never worse than the nearest."""
    import numpy as np
    import torch

    scale, zero = (torch.from_numpy(each) for each in _spread(grid, form, weight, array.shape))
    original = torch.from_numpy(matrices(weight, array).astype(np.float32))
    second = torch.from_numpy(moments.second.astype(np.float32))
    scaled = original / scale
    floor = torch.floor(scaled)
    low, high = _STRETCH
    start = torch.clamp((scaled - floor - low) / (high - low), 1e-4, 1 - 1e-4)
    variable = torch.log(start / (1 - start)).requires_grad_()  # the stretched sigmoid is the fraction

    def values(up: "torch.Tensor") -> "torch.Tensor":
        return (torch.clamp(floor + up + zero, grid.low, grid.high) - zero) * scale

    def error(up: "torch.Tensor") -> "torch.Tensor":
        difference = values(up) - original
        return (torch.matmul(difference, second) * difference).sum()

    nearest = (scaled - floor >= 0.5).float()  # noqa: PLR2004 - half
    worst = error(nearest)
    if not float(worst) > 0:
        return _integers(weight, grid, form, floor + nearest + zero, array.shape)
    optimizer = torch.optim.Adam([variable], lr=_RATE)
    with torch.enable_grad():
        for step in range(iterations):
            up = torch.clamp(torch.sigmoid(variable) * (high - low) + low, 0, 1)
            loss = error(up) / worst
            if step >= _WARM_UP * iterations:
                share = (step / iterations - _WARM_UP) / (1 - _WARM_UP)
                beta = _BETA[1] + (_BETA[0] - _BETA[1]) * (1 - share)
                loss = loss + _REGULARISED * (1 - (2 * up - 1).abs() ** beta).mean() * _strength(original)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        up = (torch.sigmoid(variable) >= 0.5).float()  # noqa: PLR2004 - half
        best = up if float(error(up)) < float(worst) else nearest
    return _integers(weight, grid, form, floor + best + zero, array.shape)


def _strength(original: "torch.Tensor") -> float:
    """Number of weights of an output: the regulariser is their mean, and each output has its own error."""
    return float(original.shape[-1])


def _integers(
    weight: WeightConstant, grid: Grid, form: Form, found: Any, shape: tuple[int, ...]
) -> "np.ndarray":
    import numpy as np

    integers = np.clip(found.detach().numpy(), grid.low, grid.high).astype(np.int64)
    return form.groups(from_matrices(weight, integers, shape))


def _spread(
    grid: Grid, form: Form, weight: WeightConstant, shape: tuple[int, ...]
) -> "tuple[np.ndarray, np.ndarray]":
    """Return scale and zero point of each element, as ``[groups, outputs, inputs]`` of the layer."""
    import numpy as np

    size = form.groups(np.empty(shape, np.int8)).shape[1]
    each = (
        form.restored(np.repeat(values[:, None], size, axis=1)).reshape(shape)
        for values in (grid.scale, grid.zero)
    )
    scale, zero = (matrices(weight, value) for value in each)
    return scale.astype(np.float32), zero.astype(np.float32)
