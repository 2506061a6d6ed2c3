"""Which weights of a module a method rounds during training, and to how many bits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepack.compression.calibration import calibration_batches
from edgepack.compression.method import Context
from edgepack.compression.selection import select
from edgepack.errors import InputError

if TYPE_CHECKING:
    import torch

    from edgepack.torchnet.weighted import LayerUse, StorableWeight

_FLOAT = 32  # bits
_SCALE_BYTES = 4  # of each output channel's scale, as float32


@dataclass(frozen=True)
class BitWidths:
    """Bits of each weight.

    Attributes:
        bits: by weight.
        kept: by layer, why it was left alone.
        use: how the layers are used on calibration samples.
        bytes: of these weights ``(before, after)``, with their scales.
    """

    bits: "Mapping[StorableWeight, int]"
    kept: Mapping[str, str]
    use: "LayerUse"
    bytes: tuple[int, int]

    @property
    def record(self) -> list[dict[str, Any]]:
        """For a checkpoint: the places of each weight, its axis of output channels, and its bits."""
        return [
            {"places": [list(place) for place in weight.places], "axis": weight.axis, "bits": width}
            for weight, width in self.bits.items()
        ]

    @property
    def layers(self) -> list[str]:
        """The layers of these weights, each once."""
        return list(dict.fromkeys(layer for weight in self.bits for layer in weight.layers))

    def read_by(self, layers: Sequence[str]) -> "dict[str, torch.Tensor]":
        """By layer, values of its input on the calibration samples; none of layers whose input is not rounded."""
        return {name: self.use.read[name] for name in layers if name in self.use.read}

    @property
    def metrics(self) -> dict[str, Any]:
        """``layers``: bits ``[before, after]`` by layer; ``weight_bytes`` ``[before, after]``; ``kept_whole``."""
        return {
            "layers": {weight.name: [_FLOAT, width] for weight, width in self.bits.items()},
            "weight_bytes": list(self.bytes),
            "kept_whole": dict(self.kept),
        }


def bit_widths(
    module: "torch.nn.Module",
    context: Context,
    *,
    method: str,
    skip: Sequence[str],
    samples: tuple[int, int],
    inner: int,
    outer: int | None,
) -> BitWidths:
    """Assign bits to the weights of ``module``.

    Args:
        module: in eval mode; it is run on samples.
        context: of the step.
        method: its name, for messages.
        skip: patterns of layers to leave alone.
        samples: how many to calibrate on, and the seed for choosing them.
        inner: bits of most weights.
        outer: bits of the first and the last layer, and of those that read an input or return an output; None leaves
            them alone.

    Raises:
        InputError: no weight is left, a pattern matches no layer, or there are no samples.
    """
    from edgepack.torchnet.weighted import observe, weighted_layers, weights_of

    weights, kept = weights_of(module)
    names = {layer: (layer,) for weight in weights for layer in weight.layers}
    skipped = set(select(skip, names, kind="layer", where=f"compress, {method}, skip"))
    batches = calibration_batches(context, *samples, method)
    # The first and the last layer may be among those that are left alone.
    layers = weighted_layers(module)
    use = observe(module, layers, batches, lambda done: context.progress("calibrating", done / 10))
    bits: dict[StorableWeight, int] = {}
    before = after = 0
    for weight in weights:
        width = outer if use.outer.intersection(weight.layers) else inner
        value = weight.of(module)
        dense = value.numel() * value.element_size()
        if skipped.intersection(weight.layers):
            kept[weight.name] = "skipped by the recipe"
        elif width is None:
            kept[weight.name] = "it is the first or the last layer, reads an input, or returns an output"
        elif (stored := _stored(value, weight.axis, width)) >= dense:
            kept[weight.name] = "its scales would take more than its integers save"
        else:
            bits[weight], before, after = width, before + dense, after + stored
    if not bits:
        raise InputError(
            f"{type(module).__name__} has no weights for {method}",
            why="; ".join(f"{name}: {why}" for name, why in list(kept.items())[:4]) or None,
            next="skip fewer layers, or remove this step",
        )
    return BitWidths(bits, kept, use, (before, after))


def _stored(weight: "torch.Tensor", axis: int, bits: int) -> int:
    """Bytes of a weight in the file: 3 bits are stored as 4."""
    width = 4 if bits == 3 else bits  # noqa: PLR2004
    return int(-(-weight.numel() * width // 8) + weight.shape[axis] * _SCALE_BYTES)
