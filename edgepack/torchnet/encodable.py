"""The weights of a module that can be stored in another form, and the parametrizations that decode them.

A parametrization (:mod:`torch.nn.utils.parametrize`) computes a layer's weight from what is stored and trained. The layer
keeps its class, and whatever reads the weight, functional calls included, reads the decoded one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from edgepack.torchnet.learned_steps import QuantizedWeight
from edgepack.torchnet.stored import StoredPart, WeightDecoder, labelled, reads_weights_anew, why_computed

_MATRIX = 2  # axes: parameters with fewer are biases and scales
_NORMS = (nn.LayerNorm, nn.modules.batchnorm._BatchNorm)  # noqa: SLF001 - the class of all batch normalisations
_LISTS = (nn.ParameterList, nn.ParameterDict)
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class EncodableWeight:
    """A parameter of two axes or more.

    Attributes:
        places: the layers and names under which the module holds it; more than one if it is tied.
    """

    places: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """Its layer's name, with that of the parameter unless it is ``weight``: ``lstm.weight_ih_l0``."""
        return labelled(*self.places[0])

    @property
    def names(self) -> tuple[str, ...]:
        """All names that select it: its layers, and its names in the module."""
        return tuple(
            dict.fromkeys(
                name for layer, own in self.places for name in (layer, labelled(layer, own), f"{layer}.{own}")
            )
        )

    def of(self, module: nn.Module) -> torch.Tensor:
        """Return its value in ``module``."""
        layer, own = self.places[0]
        value: torch.Tensor = getattr(module.get_submodule(layer), own)
        return value


class StoredForm(WeightDecoder):
    """A parametrization that decodes a weight from codes, and from parameters that are trained."""


def encodable_weights(module: nn.Module) -> tuple[list[EncodableWeight], dict[str, str]]:
    """Return all float parameters of two axes or more, in the module's order, without those of normalisations.

    Also returns, by name, why others were left out: weights that a parametrization computes already.
    """
    found: dict[int, list[tuple[str, str]]] = {}
    values: dict[int, nn.Parameter] = {}
    left: dict[str, str] = {}
    for layer_name, layer in module.named_modules():
        if isinstance(layer, parametrize.ParametrizationList) or ".parametrizations." in f".{layer_name}.":
            continue
        if parametrize.is_parametrized(layer):
            for own, chain in layer.parametrizations.items():
                left[labelled(layer_name, own)] = why_computed(chain)
        if isinstance(layer, (*_NORMS, *_LISTS)):
            continue
        for own, parameter in layer.named_parameters(recurse=False):
            if parameter.dim() >= _MATRIX and parameter.dtype == torch.float32:
                found.setdefault(id(parameter), []).append((layer_name, own))
                values[id(parameter)] = parameter
    return [EncodableWeight(tuple(places)) for places in found.values()], left


def quantized_weights(module: nn.Module) -> list[EncodableWeight]:
    """Return the weights that a quantizer with learned steps computes, and nothing else."""
    found: dict[int, list[tuple[str, str]]] = {}
    for layer_name, layer in module.named_modules():
        if parametrize.is_parametrized(layer):
            for own, chain in layer.parametrizations.items():
                if len(chain) == 1 and isinstance(chain[0], QuantizedWeight):
                    found.setdefault(id(chain[0]), []).append((layer_name, own))
    return [EncodableWeight(tuple(places)) for places in found.values()]


def without_quantizers(module: nn.Module, places: Sequence[tuple[str, str]]) -> None:
    """Remove the parametrizations at ``places``, in place; weights keep their rounded values."""
    for layer_name, own in places:
        layer = module.get_submodule(layer_name)
        _own_class(layer)
        parametrize.remove_parametrizations(layer, own, leave_parametrized=True)


def _own_class(layer: nn.Module) -> None:
    """Give a parametrized layer a class of its own: torch changes the class, which copies of the layer share."""
    if parametrize.is_parametrized(layer):
        shared = type(layer)
        layer.__class__ = type(shared.__name__, shared.__bases__, dict(shared.__dict__))


def encode(
    module: nn.Module, places: Sequence[tuple[str, str]], forms: Sequence[nn.Module], *stored: torch.Tensor
) -> None:
    """Let ``forms`` compute the parameter at each of ``places``, in place, one after the other.

    ``stored`` are the new parameters, which the first form reads; ``requires_grad`` is that of the old parameter.
    Places that shared a parameter share forms and parameters.
    """
    first: Any = None
    for layer_name, own in places:
        layer = module.get_submodule(layer_name)
        _own_class(layer)
        dense = getattr(layer, own)
        trains = dense.requires_grad
        if len(places) > 1:  # torch would change the parameter in place, under the other layers
            setattr(layer, own, nn.Parameter(dense.detach().clone(), requires_grad=trains))
        for form in forms:
            parametrize.register_parametrization(layer, own, form, unsafe=True)
        chain = layer.parametrizations[own]
        if first is None:
            first = chain
            for attribute, tensor in zip(originals(chain), stored, strict=True):
                setattr(chain, attribute, nn.Parameter(tensor.detach().clone(), requires_grad=trains))
        for attribute in originals(chain):
            setattr(chain, attribute, getattr(first, attribute))
        reads_weights_anew(layer)


def originals(chain: nn.Module) -> list[str]:
    """Return the names of the parameters that the first form of a chain reads."""
    return ["original"] if chain.is_tensor else [f"original{i}" for i in range(chain.ntensors)]


def forms(module: nn.Module) -> dict[str, list[StoredForm]]:
    """Return the stored forms in ``module`` by the name of the weight that they decode, tied weights once."""
    found: dict[str, list[StoredForm]] = {}
    seen: set[int] = set()
    for layer_name, layer in module.named_modules():
        if not parametrize.is_parametrized(layer):
            continue
        for own, chain in layer.parametrizations.items():
            stored = [form for form in chain if isinstance(form, StoredForm) and id(form) not in seen]
            seen.update(map(id, stored))
            if stored:
                found[labelled(layer_name, own)] = stored
    return found


def dense_bytes(weight: torch.Tensor) -> int:
    """Return the bytes of a weight as float32."""
    return _FLOAT_BYTES * int(weight.numel())


def stored_parts(chain: Sequence[nn.Module], *originals: torch.Tensor) -> list[StoredPart] | None:
    """Return the constants from which a chain of parametrizations decodes a weight; None if it only computes one.

    ``originals`` are the parameters that the first of them reads.
    """
    found: list[StoredPart] = []
    for number, each in enumerate(chain):
        if not isinstance(each, WeightDecoder):
            return None
        found += each.parts(*(originals if number == 0 else ()))
    return found


def stored_bytes(chain: Sequence[nn.Module], *originals: torch.Tensor) -> int:
    """Return the bytes of :func:`stored_parts` in an .onnx file: codes have 1, 2, 4, 8, 16 or 32 bits."""
    return sum(
        part.elements.numel() * part.elements.element_size()
        if part.entries is None
        else packed_bytes(part.elements.numel(), part.entries)
        for part in stored_parts(chain, *originals) or ()
    )


def packed_bytes(elements: int, entries: int) -> int:
    """Return the bytes of codes for a table of ``entries``: 1, 2, 4, 8, 16 or 32 bits each."""
    bits = next(bits for bits in (1, 2, 4, 8, 16, 32) if entries <= 1 << bits)
    return math.ceil(elements * bits / 8)


def code_dtype(entries: int) -> torch.dtype:
    """Return the smallest type of torch's for codes of a table of ``entries``."""
    if entries <= 1 << 8:
        return torch.uint8
    return torch.int16 if entries <= 1 << 15 else torch.int32


class ZeroMask(StoredForm):
    """Keeps pruned weights at zero where the form before it does not: 1 bit per weight."""

    mask: torch.Tensor

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask.to(torch.uint8))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the weight with zeros where the mask is 0."""
        return weight * self.mask.to(weight.dtype)

    def parts(self, *originals: torch.Tensor) -> tuple[StoredPart, ...]:
        """Return the mask."""
        del originals
        return (StoredPart(self.mask, 2),)
