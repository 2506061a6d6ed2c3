"""Which weights of a module a method rounds during training, and to how many bits."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgepack.compression.calibration import calibration_batches
from edgepack.compression.method import Context, Need, Step, TorchResult
from edgepack.compression.selection import select
from edgepack.errors import InputError
from edgepack.spec import Share, Train

if TYPE_CHECKING:
    import torch

    from edgepack.torchnet.objective import Objective
    from edgepack.torchnet.weighted import LayerUse, StorableWeight

_FLOAT = 32  # bits
_SCALE_BYTES = 4  # of each output channel's scale, as float32


SOURCES = (
    "compression/bit_widths.py",
    "compression/batches.py",
    "compression/calibration.py",
    "compression/selection.py",
    "torchnet/learned_steps.py",
    "torchnet/norms.py",
    "torchnet/stored.py",
    "torchnet/weighted.py",
)


class RoundingStep(Step):
    """A step that trains with rounded weights, and with what layers read rounded or ``float``."""

    activations: str
    samples: int = Field(
        default=256, ge=1, description="Samples on which the use of layers and their ranges are observed."
    )
    freeze_batch_norm: Share = Field(
        default=0.5, description="Share of the training after which batch normalisation keeps its statistics."
    )
    skip: tuple[str, ...] = Field(
        default=(), description="Layers that stay float: names, with * and ? as wildcards."
    )
    fine_tune: Train = Field(default=Train(epochs=10), description="How to train, on the training split.")
    seed: int = Field(default=0, description="Seed for choosing the samples.")


def needs(step: RoundingStep) -> tuple[Need, ...]:
    """Labels to train with."""
    del step
    return (Need("labels", "training", "fine_tune"),)


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


@dataclass(frozen=True)
class Rounding:
    """How a method rounds weights and activations while it trains.

    Attributes:
        inner: bits of most weights.
        outer: bits of the first and the last layer; None leaves them alone.
        rebuild: gives the layers in a record their quantizers.
        fit: sets the quantizers by the values that layers read.
        fitted: what the score after ``fit`` is called.
        objective: of the training.
    """

    inner: int
    outer: int | None
    rebuild: "Callable[[torch.nn.Module, Mapping[str, Any]], torch.nn.Module]"
    fit: "Callable[[torch.nn.Module, Mapping[str, torch.Tensor]], None]"
    fitted: str
    objective: "Objective"


def train_rounded(
    module: "torch.nn.Module", step: RoundingStep, context: Context, rounding: Rounding
) -> TorchResult:
    """Round the weights of a copy of ``module``, and what its layers read, and train it so.

    Metrics: those of :class:`BitWidths`; ``activations``: layers whose input is rounded; ``score``: the metric ``before``,
    after the quantizers are fitted, and after ``fine_tune``.

    Raises:
        InputError: as :func:`bit_widths`, or training fails.
    """
    trained = copy.deepcopy(module).eval()
    widths = bit_widths(
        trained,
        context,
        method=step.method,
        skip=step.skip,
        samples=(step.samples, step.seed),
        inner=rounding.inner,
        outer=rounding.outer,
    )
    read = widths.read_by(widths.layers if step.activations != "float" else ())
    change = {"weights": widths.record, "inputs": list(read)}
    scores = {"before": context.score(module)}
    rounding.rebuild(trained, change)
    rounding.fit(trained, read)
    scores[rounding.fitted] = context.score(trained)
    context.train(trained, step.fine_tune, rounding.objective)
    scores["fine_tune"] = context.score(trained)
    metrics: dict[str, Any] = {**widths.metrics, "activations": list(read)}
    if None not in scores.values():
        metrics["score"] = scores
    return TorchResult(trained, metrics, change)


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
