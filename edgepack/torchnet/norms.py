"""Batch normalisation during training."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from edgepack.torchnet.objective import Hook


def freezing_norms(share: float) -> "Hook":
    """Return a hook before each step that keeps the statistics of batch normalisation after this share of all steps.

    A network whose weights are rounded learns with the statistics that it will run with (Krishnamoorthi 2018,
    arXiv:1806.08342, section 3.2.2).
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    def freeze(module: "torch.nn.Module", done: float) -> None:
        if done >= share:
            for layer in module.modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()

    return freeze
