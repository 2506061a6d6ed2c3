"""Which weights of a network are zero: single weights, N of every M, or blocks of rows and columns.

Weights are seen as rows (output channels) and columns (input channels) at each position of the kernel, the order in which
kernels read packed weights: ``[rows, positions, columns]``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_LEAST = 0.01  # share of its units that a weight keeps when all weights compete: a layer must not vanish


@dataclass(frozen=True)
class PrunableWeight:
    """A weight of a layer.

    Attributes:
        layer: the layer's name.
        name: the parameter's name in the module.
        transposed: whether its first axis has the input channels, as in a transposed convolution.
    """

    layer: str
    name: str
    transposed: bool = False

    def rows(self, tensor: "torch.Tensor") -> "torch.Tensor":
        """Rearrange a tensor of the weight's shape as ``[rows, positions, columns]``."""
        rows = tensor.transpose(0, 1) if self.transposed else tensor
        return rows.flatten(2).transpose(1, 2) if rows.dim() > 2 else rows[:, None]  # noqa: PLR2004 - a matrix

    def restore(self, rows: "torch.Tensor", shape: Sequence[int]) -> "torch.Tensor":
        """Undo :meth:`rows`: a tensor of the weight's ``shape``."""
        if len(shape) == 2:  # noqa: PLR2004 - a matrix
            return rows[:, 0]
        first, second = (shape[1], shape[0]) if self.transposed else (shape[0], shape[1])
        tensor = rows.transpose(1, 2).reshape(first, second, *shape[2:])
        return tensor.transpose(0, 1) if self.transposed else tensor


def prunable_weights(module: "torch.nn.Module") -> tuple[dict[str, PrunableWeight], dict[str, str]]:
    """Return the weights of convolutions, linear and recurrent layers by name, and why others are left alone.

    The name is the layer's, or the parameter's if the layer has several; weights shared by layers are listed once.
    """
    import torch
    from torch import nn

    weights: dict[str, PrunableWeight] = {}
    left: dict[str, str] = {}
    seen: set[int] = set()
    for name, layer in module.named_modules():
        if isinstance(layer, nn.RNNBase):
            own = [key for key in layer._flat_weights_names if key.startswith("weight_")]  # noqa: SLF001 - no public list
        elif isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)):  # noqa: SLF001 - no public name
            own = ["weight"]
        else:
            continue
        for key in own:
            full = f"{name}.{key}" if name else key
            shown = name if len(own) == 1 else full
            tensor = layer._parameters.get(key)  # noqa: SLF001 - a computed attribute is no parameter
            if not isinstance(tensor, torch.nn.Parameter):
                left[shown] = "its weight is computed from others"
            elif id(tensor) not in seen:
                seen.add(id(tensor))
                weights[shown] = PrunableWeight(name, full, bool(getattr(layer, "transposed", False)))
    return weights, left


@dataclass(frozen=True)
class Blocks:
    """Blocks of rows and columns at one position of the kernel."""

    height: int
    width: int

    def misfit(self, height: int, width: int) -> str | None:
        """Return why the blocks do not divide a weight of so many rows and columns; None if they do."""
        if height % self.height or width % self.width:
            return f"{height} outputs and {width} inputs are no multiple of {self.height} x {self.width}"
        return None

    def sums(self, rows: "torch.Tensor") -> "torch.Tensor":
        """Add up ``[rows, positions, columns]`` over each block."""
        height, positions, width = rows.shape
        split = rows.reshape(height // self.height, self.height, positions, width // self.width, self.width)
        return split.sum((1, 4))

    def spread(self, blocks: "torch.Tensor") -> "torch.Tensor":
        """Repeat each block's value for its weights."""
        return blocks.repeat_interleave(self.height, 0).repeat_interleave(self.width, 2)


def kept_units(
    units: "Mapping[str, torch.Tensor]", share: float, *, together: bool
) -> "dict[str, torch.Tensor]":
    """Return which units are kept if ``share`` of them, those with the lowest scores, are pruned; of equal ones the first.

    All weights compete if they are pruned ``together``, and each keeps at least one unit in a hundred.
    """
    import torch

    if not together:
        return {name: _keep(scores, round(share * scores.numel())) for name, scores in units.items()}
    flat = {name: scores.flatten() for name, scores in units.items()}
    protected = {name: max(1, int(_LEAST * len(scores))) for name, scores in flat.items()}
    best = {
        name: scores.argsort(descending=True, stable=True)[: protected[name]] for name, scores in flat.items()
    }
    joined = torch.cat([scores.scatter(0, best[name], torch.inf) for name, scores in flat.items()])
    kept = _keep(joined, round(share * len(joined)))
    parts = kept.split([len(scores) for scores in flat.values()])
    return {name: part.reshape(units[name].shape) for (name, part) in zip(flat, parts, strict=True)}


def _keep(scores: "torch.Tensor", pruned: int) -> "torch.Tensor":
    import torch

    kept = torch.ones(scores.numel(), dtype=torch.bool)
    kept[scores.flatten().argsort(stable=True)[:pruned]] = False
    return kept.reshape(scores.shape)


def kept_of_each(scores: "torch.Tensor", keep: int, of: int) -> "torch.Tensor":
    """Return which weights are kept if ``keep`` of every ``of`` in a row are, by scores ``[rows, positions, columns]``."""
    import torch

    grouped = scores.unflatten(2, (-1, of))
    order = grouped.argsort(dim=-1, descending=True, stable=True)[..., :keep]
    return torch.zeros_like(grouped, dtype=torch.bool).scatter(-1, order, value=True).flatten(2)


def share_of_zeros(tensors: "Mapping[str, Any]") -> float:
    """Return the share of zeros over all tensors."""
    total = sum(tensor.numel() for tensor in tensors.values())
    return float(sum(int((tensor == 0).sum()) for tensor in tensors.values()) / max(1, total))
