"""Weights that are trained in one form and stored in another: quantized, or as signs.

Such a weight is a parametrization (:mod:`torch.nn.utils.parametrize`): the layer keeps its class, and everything that
reads its weight, tied layers and functional calls included, sees the weight as it will be stored. The original values
stay trainable. At export, :func:`as_stored` computes the stored form once, so that the file holds it and nothing else.
"""

import copy
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.utils import parametrize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MOST_PACKED = 16  # values of codes that are packed, of 1, 2 or 4 bits


@dataclass(frozen=True, eq=False)
class StoredPart:
    """A constant from which a weight is decoded.

    Attributes:
        elements: as the module holds them.
        entries: if they are codes below this number, which a file holds in as few bits as possible.
    """

    elements: torch.Tensor
    entries: int | None = None


class WeightDecoder(nn.Module, ABC):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """A parametrization that decodes a weight from its stored form."""

    @abstractmethod
    def parts(self, *originals: torch.Tensor) -> tuple[StoredPart, ...]:
        """Return the constants that a file holds for the parameters ``originals``, without those that only unpack them."""


def levels_part(levels: torch.Tensor) -> StoredPart:
    """Return 8-bit integers of any step and lowest value as codes, if those take 4 bits at most: a file packs them."""
    import numpy as np

    whole = levels.detach().numpy().astype(np.int64)
    whole -= whole.min() if whole.size else 0
    codes = whole // max(int(np.gcd.reduce(whole, axis=None)), 1)
    entries = int(codes.max(initial=1)) + 1
    return StoredPart(torch.from_numpy(codes), entries) if entries <= _MOST_PACKED else StoredPart(levels)


class StoredWeight(nn.Module, ABC):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
    """A parametrization whose weight is stored in another form than it is trained in."""

    @abstractmethod
    def stored(self, original: torch.Tensor) -> nn.Module:
        """Return a parametrization that decodes the stored form; it has the same value as this one in eval mode."""


def why_computed(chain: nn.Module) -> str:
    """Why a weight that the parametrizations ``chain`` compute is left alone, for messages."""
    if any(isinstance(each, WeightDecoder | StoredWeight) for each in chain.children()):
        return "an earlier step has encoded it"
    return f"it is computed by {type(list(chain.children())[-1]).__name__}"


class StoredInput(nn.Module, ABC):  # type: ignore[misc] # torch is untyped here
    """A module that rounds a layer's input, and does so with constants once it is trained."""

    @abstractmethod
    def stored(self) -> nn.Module:
        """Return a module of buffers that computes the same in eval mode."""


INPUT = "rounded_input"
"""Name, in a layer, of the module that rounds its first input."""


def rounds_input(layer: nn.Module, rounding: nn.Module) -> None:
    """Let ``rounding`` change the first argument of ``layer`` before each call."""
    layer.add_module(INPUT, rounding)
    layer.register_forward_pre_hook(_round_input)


def _round_input(layer: nn.Module, arguments: "tuple[torch.Tensor, ...]") -> "tuple[torch.Tensor, ...]":
    return (getattr(layer, INPUT)(arguments[0]), *arguments[1:])


def as_stored(module: nn.Module) -> nn.Module:
    """Return ``module``, or a copy in eval mode in which each stored weight and input has its final form."""
    if not any(isinstance(each, StoredWeight | StoredInput) for each in module.modules()):
        return module
    copied = copy.deepcopy(module).eval()
    forms: dict[int, nn.Module] = {}  # a parametrization that tied layers share is stored once
    with torch.no_grad():
        for layer in list(copied.modules()):
            for parametrizations in _parametrizations(layer).values():
                value = parametrizations.original if parametrizations.is_tensor else None
                for number, each in enumerate(parametrizations):
                    if isinstance(each, StoredWeight) and value is not None:
                        forms.setdefault(id(each), each.stored(value))
                        parametrizations[number] = forms[id(each)]
                    value = None if value is None else each(value)
            rounding = getattr(layer, INPUT, None)
            if isinstance(rounding, StoredInput):
                setattr(layer, INPUT, rounding.stored())
    return copied


def _parametrizations(layer: nn.Module) -> "Mapping[str, parametrize.ParametrizationList]":
    return dict(layer.parametrizations.items()) if parametrize.is_parametrized(layer) else {}


def stored_name(name: str) -> str:
    """Return the name in a file of a tensor of :func:`as_stored`: ``fc.weight`` for the elements of ``fc``'s weight.

    What decodes them is named after them: ``fc.weight.scale``.
    """
    found = re.fullmatch(r"(.*\.)?parametrizations\.(\w+)\.\d+\.(\w+)", name)
    if found is None:
        return name
    owner, weight, own = found.groups(default="")
    return f"{owner}{weight}" if own == ELEMENTS else f"{owner}{weight}.{own}"


ELEMENTS = "elements"
"""Name of the buffer with a stored weight's encoded elements."""

_INT4 = 7  # largest absolute value of a symmetric int4


def needs_int4(module: nn.Module) -> bool:
    """Whether a module in its stored form has int8 elements for DequantizeLinear that fit into 4 bits."""
    decoders = [each for each in module.modules() if getattr(each, "packed", None) is False]
    return any(int(each.elements.abs().max()) <= _INT4 for each in decoders)


def owners(module: nn.Module) -> "dict[int, list[tuple[str, str]]]":
    """By parameter (its id), the layers and names under which the module holds it: more than one if it is tied."""
    found: dict[int, list[tuple[str, str]]] = {}
    for layer_name, layer in module.named_modules():
        for name, parameter in layer.named_parameters(recurse=False):
            found.setdefault(id(parameter), []).append((layer_name, name))
    return found


def labelled(layer: str, own: str) -> str:
    """Return the name of a weight in metrics: its layer's, with the parameter's unless it is ``weight``."""
    return layer if own == "weight" and layer else f"{layer}.{own}".lstrip(".")


def parametrize_all(
    module: nn.Module, places: "Sequence[tuple[str, str]]", parametrization: StoredWeight
) -> None:
    """Let one parametrization compute the parameter ``name`` of each ``(layer, name)``; tied weights stay tied."""
    for layer_name, name in places:
        layer = module.get_submodule(layer_name)
        parametrize.register_parametrization(layer, name, parametrization, unsafe=True)
        reads_weights_anew(layer)


def reads_weights_anew(layer: nn.Module) -> None:
    """Let a recurrent layer drop its list of weights after each call, in place: it makes the list again when called.

    Weights that are computed cannot be copied; other layers have no such list.
    """
    if isinstance(layer, nn.RNNBase):
        _forget_flat_weights(layer)
        if _forget_flat_weights not in layer._forward_hooks.values():  # noqa: SLF001 - torch has no public way
            layer.register_forward_hook(_forget_flat_weights)


def _forget_flat_weights(layer: nn.Module, *_: Any) -> None:
    layer._flat_weights = [None] * len(layer._flat_weights_names)  # noqa: SLF001 - torch has no public way
