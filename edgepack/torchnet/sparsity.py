"""Zeros of pruned weights."""

from dataclasses import replace
from typing import TYPE_CHECKING

from edgepack.torchnet.objective import Objective

if TYPE_CHECKING:
    import torch


def zero_masks(module: "torch.nn.Module") -> "dict[str, torch.Tensor]":
    """By parameter, where it is zero, for weights of two or more axes with zeros; an all-zero weight is not pruned."""
    masks = {}
    for name, parameter in module.named_parameters():
        zeros = parameter.detach() == 0
        if parameter.dim() > 1 and zeros.any() and not zeros.all():
            masks[name] = zeros
    return masks


def keeping_zeros(module: "torch.nn.Module", objective: Objective) -> Objective:
    """The objective, with weights of ``module`` that are zero now set to zero again after each update."""
    import torch

    masks = zero_masks(module)
    if not masks:
        return objective

    def after_step(trained: "torch.nn.Module", done: float) -> None:
        if objective.after_step is not None:
            objective.after_step(trained, done)
        parameters = dict(trained.named_parameters())
        with torch.no_grad():
            for name, zeros in masks.items():
                parameters[name].masked_fill_(zeros, 0.0)

    return replace(objective, after_step=after_step, state=objective.kept)
