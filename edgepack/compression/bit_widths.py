"""Which weights of a module a method rounds during training, and to how many bits."""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field

from edgepack.compression.calibration import calibration_batches
from edgepack.compression.method import Context, Need, Step, TorchResult
from edgepack.compression.selection import Skip, select, skipped
from edgepack.compression.sensitive import samples_for
from edgepack.compression.sensitive_modules import SOURCES as SENSITIVE
from edgepack.compression.sensitive_modules import noise_of_modules
from edgepack.errors import InputError
from edgepack.spec import Seed, Share, Train

if TYPE_CHECKING:
    import torch

    from edgepack.torchnet.objective import Objective
    from edgepack.torchnet.weighted import LayerUse, StorableWeight

_FLOAT = 32  # bits
_SCALE_BYTES = 4  # of each output channel's scale, as float32


SOURCES = (
    *SENSITIVE,
    "compression/bit_widths.py",
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
    skip: Skip = Field(
        default=(),
        description="Layers that stay float: names, with * and ? as wildcards; auto or a limit in dB, by sensitivity.",
    )
    fine_tune: Train = Field(default=Train(epochs=10), description="How to train, on the training split.")
    seed: Seed = Field(default=0, description="Seed for choosing the samples.")


def needs(step: RoundingStep) -> tuple[Need, ...]:
    """Labels to train with, and samples for ``skip`` by sensitivity."""
    return (Need("labels", "training", "fine_tune"), *samples_for(step.skip))


@dataclass(frozen=True)
class BitWidths:
    """Bits of each weight.

    Attributes:
        bits: by weight.
        kept: by layer, why it was left alone.
        use: how the layers are used on calibration samples.
        bytes: of each weight ``(before, after)``, with its scales.
    """

    bits: "Mapping[StorableWeight, int]"
    kept: Mapping[str, str]
    use: "LayerUse"
    bytes: "Mapping[StorableWeight, tuple[int, int]]"

    def only(self, weights: "Collection[StorableWeight]") -> Self:
        """Return these of the weights, in the same order."""
        return replace(
            self,
            bits={weight: width for weight, width in self.bits.items() if weight in weights},
            bytes={weight: size for weight, size in self.bytes.items() if weight in weights},
        )

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
            "weight_bytes": [sum(sizes) for sizes in zip(*self.bytes.values(), strict=True)],
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

    Metrics: those of :class:`BitWidths`; ``activations``: layers whose input is rounded; ``float_activations``: layers with
    rounded weights whose input is not, to the reason; ``score``: the metric ``before``, after the quantizers are fitted, and
    after ``fine_tune``.

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
    widths = _without_sensitive(widths, trained, step, context, rounding)
    scores = {"before": context.score(module)}
    change, read = _round(trained, widths, step, rounding)
    scores[rounding.fitted] = context.score(trained)
    context.train(trained, step.fine_tune, rounding.objective)
    scores["fine_tune"] = context.score(trained)
    metrics: dict[str, Any] = {**widths.metrics, "activations": list(read)}
    if step.activations != "float":
        metrics["float_activations"] = _weights_only(trained, widths.layers)
    if None not in scores.values():
        metrics["score"] = scores
    return TorchResult(trained, metrics, change)


def _round(
    module: "torch.nn.Module", widths: BitWidths, step: RoundingStep, rounding: Rounding
) -> "tuple[dict[str, Any], dict[str, torch.Tensor]]":
    """Give the layers of ``module`` quantizers, in place, and fit them; return the record, and what was read by layer."""
    read = widths.read_by(widths.layers if step.activations != "float" else ())
    change = {"weights": widths.record, "inputs": list(read)}
    rounding.rebuild(module, change)
    rounding.fit(module, read)
    return change, read


def _weights_only(module: "torch.nn.Module", layers: Sequence[str]) -> dict[str, str]:
    """Return the layers of a class whose input is never rounded, with the reason."""
    from edgepack.torchnet.weighted import weights_only

    reasons = {name: weights_only(module.get_submodule(name)) for name in layers}
    return {name: why for name, why in reasons.items() if why is not None}


def _without_sensitive(
    widths: BitWidths, module: "torch.nn.Module", step: RoundingStep, context: Context, rounding: Rounding
) -> BitWidths:
    """Return the bits without those of layers that ``skip`` finds sensitive to being rounded, before any training.

    Raises:
        InputError: no weight is left.
    """
    if isinstance(step.skip, tuple):
        return widths

    def alone(weight: "StorableWeight") -> "torch.nn.Module":
        changed = copy.deepcopy(module)
        _round(changed, widths.only({weight}), step, rounding)
        return changed

    def noise() -> dict[str, float]:
        changes = {weight.name: partial(alone, weight) for weight in widths.bits}
        return noise_of_modules(module, changes, context, samples=step.samples, seed=step.seed)

    names = {weight.name: weight.names for weight in widths.bits}
    left = skipped(step.skip, names, noise, kind="layer", where=f"compress, {step.method}, skip")
    found = widths.only({weight for weight in widths.bits if weight.name not in left})
    found = replace(found, kept={**widths.kept, **left})
    if not found.bits:
        raise _nothing(module, step.method, found.kept)
    return found


def bit_widths(
    module: "torch.nn.Module",
    context: Context,
    *,
    method: str,
    skip: Skip,
    samples: tuple[int, int],
    inner: int,
    outer: int | None,
) -> BitWidths:
    """Assign bits to the weights of ``module``.

    Args:
        module: in eval mode; it is run on samples.
        context: of the step.
        method: its name, for messages.
        skip: patterns of layers to leave alone; sensitive layers are not left alone yet.
        samples: how many to calibrate on, and the seed for choosing them.
        inner: bits of most weights.
        outer: bits of the first and the last layer, and of those that read an input or return an output; None leaves
            them alone.

    Raises:
        InputError: no weight is left, a pattern matches no layer, or there are no samples.
    """
    from edgepack.torchnet.weighted import observe, weighted_layers, weights_of

    weights, kept = weights_of(module)
    names = {weight.name: weight.names for weight in weights}
    patterns = skip if isinstance(skip, tuple) else ()
    named = set(select(patterns, names, kind="layer", where=f"compress, {method}, skip"))
    batches = calibration_batches(context, *samples, method)
    # The first and the last layer may be among those that are left alone.
    layers = weighted_layers(module)
    use = observe(module, layers, batches, lambda done: context.progress("calibrating", done / 10))
    bits: dict[StorableWeight, int] = {}
    sizes: dict[StorableWeight, tuple[int, int]] = {}
    for weight in weights:
        width = outer if use.outer.intersection(weight.layers) else inner
        value = weight.of(module)
        dense = value.numel() * value.element_size()
        if weight.name in named:
            kept[weight.name] = "skipped by the recipe"
        elif width is None:
            kept[weight.name] = "it is the first or the last layer, reads an input, or returns an output"
        elif (stored := _stored(value, weight.axis, width)) >= dense:
            kept[weight.name] = "its scales would take more than its integers save"
        else:
            bits[weight], sizes[weight] = width, (dense, stored)
    if not bits:
        raise _nothing(module, method, kept)
    return BitWidths(bits, kept, use, sizes)


def _nothing(module: "torch.nn.Module", method: str, kept: Mapping[str, str]) -> InputError:
    return InputError(
        f"{type(module).__name__} has no weights for {method}",
        why="; ".join(f"{name}: {why}" for name, why in list(kept.items())[:4]) or None,
        where=f"compress, {method}",
        next="skip fewer layers, or remove this step",
    )


def _stored(weight: "torch.Tensor", axis: int, bits: int) -> int:
    """Bytes of a weight in the file: 3 bits are stored as 4."""
    width = 4 if bits == 3 else bits  # noqa: PLR2004
    return int(-(-weight.numel() * width // 8) + weight.shape[axis] * _SCALE_BYTES)
