"""Build the torch module of a recipe's ``module:callable``."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.data.user_code import call, importable
from edgepack.errors import InputError

if TYPE_CHECKING:
    import torch

    from edgepack.spec import Model
    from edgepack.torchnet.checkpoint import Rebuild, Restored


def load_source(
    model: "Model", base: Path, rebuilders: "Mapping[str, Rebuild]", *, trust: bool = False
) -> "Restored":
    """Build the module of ``model.source``, with ``model.weights`` if given, in eval mode.

    Weights may be an edgepack checkpoint: its changes are repeated by ``rebuilders``. ``trust`` allows pickled objects in
    the weights file.

    Raises:
        InputError: as :func:`build_source`; if the weights are missing, corrupt, or do not match.
        TrustError: they contain pickled objects, and are not trusted.
    """
    from edgepack.torchnet.checkpoint import Restored, load

    if model.source is None:
        raise InputError("the recipe's model has no source", next="set model.source to module:callable")
    module = build_source(model.source, base)
    if model.weights is None:
        return Restored(module)
    with importable(base):  # classes of pickled objects may be beside the recipe
        return load(module, base / model.weights, rebuilders, trust=trust)


def build_source(reference: str, base: Path) -> "torch.nn.Module":
    """Build the module of ``reference``, in eval mode; ``base`` is the recipe's folder.

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
