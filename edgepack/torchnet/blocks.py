"""Blocks of layers that can be removed: those whose input and output have the same shape."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from edgepack.torchnet.layers import decoded_parameters, inference, layer_macs

_LAYERS = 2  # weighted layers that make a block
_MATRIX = 2  # axes of a weight


class Passthrough(nn.Module):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """Returns its first argument, in place of a block that was removed."""

    def forward(self, x: torch.Tensor, *_args: Any, **_options: Any) -> torch.Tensor:
        """Return ``x``."""
        return x


@dataclass(frozen=True)
class RemovableBlock:
    """A module that can be replaced by its input.

    Attributes:
        name: in the network.
        kind: its class.
        parameters: elements of its weights and biases.
        macs: multiply-accumulates of its layers in one inference.
        weighted: its layers with weights.
    """

    name: str
    kind: str
    parameters: int
    macs: int
    weighted: int


def removable(module: nn.Module, examples: Sequence[torch.Tensor]) -> dict[str, RemovableBlock]:
    """Return every module with weights whose output has the shape and dtype of its first argument, in all calls."""
    fits: dict[str, bool] = {}

    def hook(name: str, _layer: Any, args: Any, _options: Any, output: Any) -> None:
        tensors = bool(args) and isinstance(args[0], torch.Tensor) and isinstance(output, torch.Tensor)
        same = tensors and (args[0].shape, args[0].dtype) == (output.shape, output.dtype)
        fits[name] = fits.get(name, True) and same

    named = [(name, layer) for name, layer in module.named_modules() if name]
    handles = [layer.register_forward_hook(partial(hook, name), with_kwargs=True) for name, layer in named]
    try:
        with inference(module):
            module(*examples)
    finally:
        for handle in handles:
            handle.remove()
    macs = layer_macs(module, tuple(examples))
    found = {}
    for name, layer in named:
        parameters = decoded_parameters(layer)
        weights = [p for p in parameters if p.dim() >= _MATRIX]
        if fits.get(name) and weights:
            inside = sum(value for each, value in macs.items() if each == name or each.startswith(f"{name}."))
            count = sum(p.numel() for p in parameters)
            found[name] = RemovableBlock(name, type(layer).__name__, count, inside, len(weights))
    return found


def outermost_blocks(found: Mapping[str, RemovableBlock]) -> dict[str, RemovableBlock]:
    """Return the blocks that a network is built of: the largest ones, of at least two weighted layers.

    A module that holds several blocks of one class is a stage, and its blocks count in place of it.
    """
    blocks = {name: block for name, block in found.items() if block.weighted >= _LAYERS}
    inner: dict[str, list[str]] = {}
    for name in blocks:
        around = [other for other in blocks if name.startswith(f"{other}.")]
        inner.setdefault(max(around, key=len, default=""), []).append(name)
    chosen: dict[str, RemovableBlock] = {}
    pending = list(inner.get("", []))
    while pending:
        name = pending.pop(0)
        within = inner.get(name, [])
        kinds = [blocks[each].kind for each in within]
        if len(kinds) > len(set(kinds)):
            pending = within + pending
        else:
            chosen[name] = blocks[name]
    return chosen
