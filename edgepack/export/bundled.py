"""The weights of a torch module as a bundle would hold them, without exporting it.

This is an estimate: weights are taken in the forms in which the module is exported, batch normalisation is folded into the
layer before it, and layers that the module never calls count as well.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from edgepack.onnxfile.block_form import smaller_blocks
from edgepack.onnxfile.encodings.integers import PACKED_BITS, code_bits, code_type, pack, saves
from edgepack.spec.encoding import BundledWeight
from edgepack.torchnet.encodable import originals, stored_parts
from edgepack.torchnet.layers import inference
from edgepack.torchnet.stored import as_stored, needs_int4

if TYPE_CHECKING:
    import numpy as np

    from edgepack.torchnet.stored import StoredPart

_CONVOLUTION = nn.modules.conv._ConvNd  # noqa: SLF001 - torch has no public name for all convolutions
_TRANSPOSED = nn.modules.conv._ConvTransposeNd  # noqa: SLF001
_NORM = nn.modules.batchnorm._BatchNorm  # noqa: SLF001


def module_weights(module: nn.Module, examples: "tuple[torch.Tensor, ...]") -> tuple[BundledWeight, ...]:
    """Return what a bundle holds for each parameter and buffer of ``module``, tied ones once.

    ``examples`` are one tensor per input; the module is run on them to see which layers a normalisation follows.
    """
    stored = as_stored(module)
    with inference(stored):
        return tuple(_Weights(stored, _normalised(stored, examples)).found())


class _Weights:
    """The weights of a module in its stored form."""

    def __init__(self, module: nn.Module, norms: dict[nn.Module, Any]) -> None:
        self.module, self.norms = module, norms
        self.folded = set(norms.values())
        self.sparse = _sparse_roles(module)
        self.int4 = needs_int4(module)
        self.seen: set[int] = set()

    def found(self) -> Iterator[BundledWeight]:
        for name, layer in self.module.named_modules():
            if ".parametrizations." in f".{name}." or layer in self.folded:
                continue
            if isinstance(layer, _NORM) and layer.running_var is not None:
                factor, shift = _factor_and_shift(layer)
                yield from (_dense(f"{name}.factor", factor), _dense(f"{name}.shift", shift))
                continue
            yield from self._parameters(name, layer)
            yield from self._computed(name, layer)
            if layer in self.norms:
                factor, shift = _factor_and_shift(self.norms[layer])
                bias = layer.bias
                yield _dense(f"{name}.bias", shift if bias is None else shift + bias * factor)

    def _parameters(self, name: str, layer: nn.Module) -> Iterator[BundledWeight]:
        """Parameters and buffers that the layer holds as they are."""
        for own, value in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
            if id(value) in self.seen or (own == "bias" and layer in self.norms):
                continue
            self.seen.add(id(value))
            dense = value.detach()
            if own == "weight" and layer in self.norms:
                factor, _ = _factor_and_shift(self.norms[layer])
                dense = dense * factor.reshape(
                    [-1 if each == _outputs(layer) else 1 for each in range(dense.dim())]
                )
            yield self._weight(f"{name}.{own}", dense, self.sparse.get(id(value)))

    def _computed(self, name: str, layer: nn.Module) -> Iterator[BundledWeight]:
        """Parameters that parametrizations compute, from codes or otherwise."""
        if not parametrize.is_parametrized(layer):
            return
        for own, chain in layer.parametrizations.items():
            if id(chain[-1]) in self.seen:
                continue
            self.seen.add(id(chain[-1]))
            weight, given = getattr(layer, own).detach(), [getattr(chain, each) for each in originals(chain)]
            parts = stored_parts(chain, *given)
            norm = self.norms.get(layer) if own == "weight" else None
            if parts is None:
                yield self._weight(f"{name}.{own}", weight, self.sparse.get(id(chain)))
                continue
            arrays = [_array(part) for part in parts]
            whole = (
                parts[0].entries is None and parts[0].elements.shape == weight.shape
            )  # not codes, or a table
            if whole and self.sparse.get(id(chain)) is not None and not self.int4:
                sparse = smaller_blocks(arrays[0], inputs_first=self.sparse[id(chain)])
                arrays[:1] = arrays[:1] if sparse is None else [sparse.blocks, sparse.gaps]
            if norm is not None and not _takes_factor(chain):
                arrays.append(_factor_and_shift(norm)[0].numpy())
            yield BundledWeight(f"{name}.{own}", tuple(arrays), weight.numpy())

    def _weight(self, name: str, value: torch.Tensor, inputs_first: bool | None) -> BundledWeight:
        """A weight that is not encoded, in sparse blocks if that makes it smaller."""
        found = _dense(name, value)
        sparse = None if inputs_first is None else smaller_blocks(found.decoded, inputs_first=inputs_first)
        return found if sparse is None else BundledWeight(name, (sparse.blocks, sparse.gaps), found.decoded)


def _dense(name: str, value: torch.Tensor) -> BundledWeight:
    array = value.detach().float().numpy() if value.is_floating_point() else value.numpy()
    return BundledWeight(name, (array,), array)


def _array(part: "StoredPart") -> "np.ndarray":
    """A constant as a file holds it: codes in as few bits as possible."""
    array: np.ndarray = part.elements.detach().numpy()
    if part.entries is None:
        return array
    bits = code_bits(part.entries)
    if bits in PACKED_BITS and saves(array.size, bits):
        return pack(array, bits)
    return array.astype(code_type(part.entries))


def _outputs(layer: nn.Module) -> int:
    """The axis of a weight's outputs."""
    return 1 if isinstance(layer, _TRANSPOSED) else 0


def _takes_factor(chain: nn.Module) -> bool:
    """Whether the weight has a scale for each output, into which a factor is folded."""
    return any(hasattr(each, "scale") for each in chain)


def _factor_and_shift(norm: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What a normalisation multiplies each channel by, and adds to it."""
    factor = torch.rsqrt(norm.running_var + norm.eps)
    shift = -norm.running_mean * factor
    if norm.weight is None:
        return factor, shift
    return factor * norm.weight, shift * norm.weight + norm.bias


def _normalised(module: nn.Module, examples: "tuple[torch.Tensor, ...]") -> dict[nn.Module, Any]:
    """The convolutions and linear layers that a batch normalisation follows, with it."""
    made: dict[int, tuple[nn.Module, torch.Tensor]] = {}
    found: dict[nn.Module, Any] = {}

    def after(layer: nn.Module, _: Any, output: torch.Tensor) -> None:
        made[id(output)] = layer, output  # kept: another tensor could have its id

    def before(norm: Any, given: "tuple[torch.Tensor, ...]") -> None:
        layer, output = made.get(id(given[0]), (None, None)) if given else (None, None)
        if layer is not None and norm.running_var is not None and _foldable(layer, output):
            found[layer] = norm

    layers = [each for each in module.modules() if isinstance(each, _CONVOLUTION | nn.Linear)]
    handles = [layer.register_forward_hook(after) for layer in layers]
    handles += [
        norm.register_forward_pre_hook(before) for norm in module.modules() if isinstance(norm, _NORM)
    ]
    try:
        module(*examples)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _foldable(layer: nn.Module, output: Any) -> bool:
    """Whether a factor of each channel of a layer's output is one of its weight's outputs."""
    if isinstance(layer, nn.Linear):
        return bool(output.dim() == 2)  # noqa: PLR2004 - with more axes, the channels are others
    return layer.groups == 1 or not isinstance(layer, _TRANSPOSED)


def _sparse_roles(module: nn.Module) -> dict[int, bool]:
    """By parameter or chain of parametrizations (its id): whether the first axis of a weight that may be sparse has the inputs."""
    roles: dict[int, set[bool | None]] = {}
    for layer in module.modules():
        own = isinstance(layer, _CONVOLUTION | nn.Linear)
        held = dict(layer.named_parameters(recurse=False))
        if parametrize.is_parametrized(layer):
            held |= layer.parametrizations.items()
        for name, value in held.items():
            role = isinstance(layer, _TRANSPOSED) if own and name == "weight" else None
            roles.setdefault(id(value), set()).add(role)
    return {key: bool(role) for key, (role, *others) in roles.items() if role is not None and not others}
