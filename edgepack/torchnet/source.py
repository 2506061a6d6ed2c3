"""The torch module that a recipe's ``module:callable`` builds."""

from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.data.user_code import call
from edgepack.errors import InputError

if TYPE_CHECKING:
    import torch


def build_source(reference: str, base: Path) -> "torch.nn.Module":
    """The module that ``reference`` builds, in eval mode; ``base`` is the recipe's folder.

    Raises:
        InputError: if the source cannot be imported, fails, or does not return a ``torch.nn.Module``.
    """
    from torch import nn

    module = call(reference, base)
    if not isinstance(module, nn.Module):
        raise InputError(
            f"{reference} returned a {type(module).__name__}, not a torch.nn.Module", where=reference
        )
    return module.eval()
