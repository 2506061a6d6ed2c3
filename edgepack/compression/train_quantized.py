"""Quantization-aware training with learned step sizes (LSQ: Esser et al. 2020, arXiv:1902.08153).

Weights are rounded to integers with one step per output channel, and the input of each layer to uint8 with one step;
all steps start from calibrated ranges and are trained with the weights. The exported file holds integers and
DequantizeLinear, and a batch normalisation after a layer is folded into that layer's steps.
"""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgepack.compression.calibration import calibration_batches
from edgepack.compression.method import Context, Need, Step, TorchMethod, TorchResult
from edgepack.compression.selection import select
from edgepack.errors import InputError
from edgepack.spec import Share, Train

if TYPE_CHECKING:
    import torch

    from edgepack.torchnet.objective import Objective
    from edgepack.torchnet.weighted import LayerUse, StorableWeight

Bits = Literal[2, 3, 4, 8]
_NAME = "train-quantized"
_FLOAT = 32  # bits
_STEP_BYTES = 4  # of a step size, as float32


class TrainQuantized(Step):
    """Train with weights and activations rounded as the file will hold them: integers with learned steps."""

    method: Literal["train-quantized"]
    weights: Bits = Field(default=8, description="Bits of a weight; 3 are stored as 4.")
    activations: Literal["uint8", "float"] = Field(
        default="uint8", description="Round the input of each layer to uint8, or leave activations alone."
    )
    first_last: Bits = Field(
        default=8,
        description="Bits of the weights of the first and the last layer, and of layers that read an input or return an output.",
    )
    samples: int = Field(
        default=256, ge=1, description="Samples on which ranges are calibrated before training."
    )
    freeze_batch_norm: Share = Field(
        default=0.5, description="Share of the training after which batch normalisation keeps its statistics."
    )
    skip: tuple[str, ...] = Field(
        default=(), description="Layers that stay float: names, with * and ? as wildcards."
    )
    fine_tune: Train = Field(default=Train(epochs=10), description="How to train, on the training split.")
    seed: int = Field(default=0, description="Seed for choosing the calibration samples.")


def apply(module: "torch.nn.Module", step: TrainQuantized, context: Context) -> TorchResult:
    """Quantize a copy of ``module`` with calibrated ranges, then train weights and steps.

    Metrics: ``layers``: name to bits of a weight ``[before, after]``; ``activations``: layers whose input is uint8;
    ``weight_bytes``: all weights of the module with their steps ``[before, after]``; ``kept_whole``: name to the reason why
    a layer was left alone; ``score``: the metric ``before``, ``calibrated`` and after ``fine_tune``.

    Raises:
        InputError: there is nothing to quantize, a ``skip`` name is unknown, there are no samples, or training fails.
    """
    from edgepack.torchnet.weighted import observe, weights_of

    trained = copy.deepcopy(module).eval()
    weights, kept = weights_of(trained)
    weights = _without_skipped(weights, kept, step)
    names = [layer for weight in weights for layer in weight.layers]
    batches = calibration_batches(context, step.samples, step.seed, _NAME)
    use = observe(trained, names, batches, lambda done: context.progress("calibrating", done / 10))
    bits = {weight: _bits(weight, use, step) for weight in weights}
    for weight in [
        each
        for each in weights
        if _bytes(each.of(trained), each.axis, bits[each]) >= _dense(each.of(trained))
    ]:
        kept[weight.name] = "its steps would take more than its integers save"
        del bits[weight]
    if not bits:
        raise InputError(
            f"{type(module).__name__} has no weights to quantize",
            why="; ".join(f"{name}: {why}" for name, why in list(kept.items())[:4]) or None,
            next=f"skip fewer layers, or remove {_NAME}",
        )
    scores = {"before": context.score(module)}
    before = sum(_dense(weight.of(trained)) for weight in bits)
    after = sum(_bytes(weight.of(trained), weight.axis, width) for weight, width in bits.items())
    change = _change(bits, use, step)
    rebuild(trained, change)
    _fit(trained, use)
    scores["calibrated"] = context.score(trained)
    context.train(trained, step.fine_tune, _objective(step))
    scores["fine_tune"] = context.score(trained)
    metrics: dict[str, Any] = {
        "layers": {weight.name: [_FLOAT, width] for weight, width in bits.items()},
        "activations": list(change["inputs"]),
        "weight_bytes": [before, after],
        "kept_whole": kept,
    }
    if None not in scores.values():
        metrics["score"] = scores
    return TorchResult(trained, metrics, change)


def rebuild(module: "torch.nn.Module", change: Mapping[str, Any]) -> "torch.nn.Module":
    """Give the recorded layers quantizers; their steps are loaded later."""
    from edgepack.torchnet.learned_steps import QuantizedInput, QuantizedWeight
    from edgepack.torchnet.stored import parametrize_all, rounds_input

    for each in change["weights"]:
        places = [(layer, name) for layer, name in each["places"]]
        axis, value = each["axis"], getattr(module.get_submodule(places[0][0]), places[0][1])
        parametrize_all(module, places, QuantizedWeight(each["bits"], axis, value.shape[axis]))
    for name in change["inputs"]:
        rounds_input(module.get_submodule(name), QuantizedInput())
    return module.eval()


METHOD = TorchMethod(
    spec=TrainQuantized,
    apply=apply,
    rebuild=rebuild,
    needs=lambda _: (Need("labels", "training", "fine_tune"),),
    leaves=frozenset({"fake-quantized"}),
    destroys={
        "encoded": "the weights are codes already, which it would replace by integers",
        "fake-quantized": "the layers have learned quantizers already; set bits and skip in one step",
    },
    distributions=("torch",),
    sources=(
        "compression/calibration.py",
        "compression/selection.py",
        "compression/train_quantized.py",
        "torchnet/learned_steps.py",
        "torchnet/stored.py",
        "torchnet/weighted.py",
    ),
)


def _without_skipped(
    weights: "list[StorableWeight]", kept: dict[str, str], step: TrainQuantized
) -> "list[StorableWeight]":
    layers = {layer: (layer,) for weight in weights for layer in weight.layers}
    skipped = set(select(step.skip, layers, kind="layer", where=f"compress, {_NAME}, skip"))
    for weight in weights:
        if skipped.intersection(weight.layers):
            kept[weight.name] = "skipped by the recipe"
    return [weight for weight in weights if not skipped.intersection(weight.layers)]


def _bits(weight: "StorableWeight", use: "LayerUse", step: TrainQuantized) -> Bits:
    return step.first_last if use.outer.intersection(weight.layers) else step.weights


def _dense(weight: "torch.Tensor") -> int:
    return int(weight.numel() * weight.element_size())


def _bytes(weight: "torch.Tensor", axis: int, bits: int) -> int:
    """Bytes of a quantized weight in the file: 3 bits are stored as 4."""
    stored = 4 if bits == 3 else bits  # noqa: PLR2004
    return -(-int(weight.numel()) * stored // 8) + int(weight.shape[axis]) * _STEP_BYTES


def _change(bits: "Mapping[StorableWeight, int]", use: "LayerUse", step: TrainQuantized) -> dict[str, Any]:
    layers = [layer for weight in bits for layer in weight.layers]
    return {
        "weights": [
            {"places": [list(place) for place in weight.places], "axis": weight.axis, "bits": width}
            for weight, width in bits.items()
        ],
        "inputs": [
            layer for layer in dict.fromkeys(layers) if layer in use.read and step.activations != "float"
        ],
    }


def _fit(module: "torch.nn.Module", use: "LayerUse") -> None:
    """Set all steps to those with the smallest squared error on the weights and the observed activations."""
    from edgepack.torchnet.learned_steps import QuantizedInput, QuantizedWeight
    from edgepack.torchnet.stored import INPUT

    for name, layer in list(module.named_modules()):
        rounding = getattr(layer, INPUT, None)
        if isinstance(rounding, QuantizedInput):
            rounding.fit(use.read[name])
        for chain in getattr(layer, "parametrizations", {}).values():
            if isinstance(chain[0], QuantizedWeight):
                chain[0].fit(chain.original)


def _objective(step: TrainQuantized) -> "Objective":
    import torch

    from edgepack.torchnet.learned_steps import step_parameters
    from edgepack.torchnet.objective import Objective

    norms = torch.nn.modules.batchnorm._BatchNorm  # noqa: SLF001 - the class that all batch normalisations share

    def freeze(module: torch.nn.Module, done: float) -> None:
        if done >= step.freeze_batch_norm:
            for layer in module.modules():
                if isinstance(layer, norms):
                    layer.eval()

    def optimizer(module: torch.nn.Module, spec: Train) -> torch.optim.Optimizer:
        steps = step_parameters(module)
        known = {id(each) for each in steps}
        others = [each for each in module.parameters() if id(each) not in known]
        groups = [{"params": others, "weight_decay": spec.weight_decay}, {"params": steps}]
        return torch.optim.Adam(groups, lr=spec.lr)

    return Objective(before_step=freeze, optimizer=optimizer)
