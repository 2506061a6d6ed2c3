"""Weights of one bit or of three values, trained with the straight-through estimator.

XNOR-Net (Rastegari et al. 2016, arXiv:1603.05279) replaces a weight by its sign times the mean absolute weight of its
output channel; ternary weight networks (Li et al. 2016, arXiv:1605.04711) also have zero. The exported file holds packed
bits and one scale per channel.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgepack.compression.bit_widths import SOURCES, Rounding, RoundingStep, needs, train_rounded
from edgepack.compression.method import Context, TorchMethod, TorchResult, Trait
from edgepack.spec import Train

if TYPE_CHECKING:
    import torch


class Binarize(RoundingStep):
    """Train with weights of one bit, or of the three values -1, 0 and 1, and a scale per output channel."""

    method: Literal["binarize"]
    weights: Literal["binary", "ternary"] = Field(
        default="binary", description="Signs, stored as 1 bit; or signs and zeros, stored as 2 bits."
    )
    activations: Literal["float", "binary"] = Field(
        default="float",
        description="Leave activations alone, or give the input of each layer two values, except for recurrent layers and attention.",
    )
    first_last: bool = Field(
        default=False,
        description="Also the first and the last layer, and those that read an input or return an output.",
    )
    fine_tune: Train = Field(default=Train(epochs=20), description="How to train, on the training split.")


def apply(module: "torch.nn.Module", step: Binarize, context: Context) -> TorchResult:
    """Replace weights of a copy of ``module`` by signs, then train.

    Metrics: ``layers``: name to bits of a weight ``[before, after]``; ``activations``: layers whose input has two values;
    ``float_activations``: other layers to the reason, if activations are to be binary; ``weight_bytes``: all weights of these
    layers with their scales ``[before, after]``; ``kept_whole``: name to the reason why a layer was left alone; ``score``:
    the metric ``before``, ``binarized`` and after ``fine_tune``.

    Raises:
        InputError: no weight is left, a ``skip`` name is unknown, there are no samples, or training fails.
    """
    from edgepack.torchnet.norms import freezing_norms
    from edgepack.torchnet.objective import Objective

    bits = 1 if step.weights == "binary" else 2
    objective = Objective(before_step=freezing_norms(step.freeze_batch_norm), state=())
    outer = bits if step.first_last else None
    return train_rounded(module, step, context, Rounding(bits, outer, rebuild, _fit, "binarized", objective))


def _fit(module: "torch.nn.Module", read: "Mapping[str, torch.Tensor]") -> None:
    from edgepack.torchnet.signs import SignInput
    from edgepack.torchnet.stored import INPUT

    for name, values in read.items():
        rounding = getattr(module.get_submodule(name), INPUT)
        if isinstance(rounding, SignInput):
            rounding.fit(values)


def rebuild(module: "torch.nn.Module", change: Mapping[str, Any]) -> "torch.nn.Module":
    """Let the recorded layers compute signs of their weights, and of their inputs."""
    from edgepack.torchnet.signs import SignInput, SignWeight, TernaryWeight
    from edgepack.torchnet.stored import parametrize_all, rounds_input

    for each in change["weights"]:
        kind = SignWeight if each["bits"] == 1 else TernaryWeight
        parametrize_all(module, [(layer, name) for layer, name in each["places"]], kind(each["axis"]))
    for name in change["inputs"]:
        rounds_input(module.get_submodule(name), SignInput())
    return module.eval()


def _destroys(step: Binarize) -> Mapping[Trait, str]:
    found: dict[Trait, str] = {"encoded": "the weights are codes already"}
    if step.weights == "binary":
        found["sparse"] = "a sign is never zero, so pruned weights would come back; use weights: ternary"
    return found


METHOD = TorchMethod(
    spec=Binarize,
    apply=apply,
    rebuild=rebuild,
    needs=needs,
    leaves=frozenset({"encoded"}),
    destroys=_destroys,
    distributions=("torch",),
    sources=(*SOURCES, "compression/binarize.py", "torchnet/signs.py"),
)
