"""Quantization-aware training with learned step sizes (LSQ: Esser et al. 2020, arXiv:1902.08153).

Weights are rounded to integers with one step per output channel, and the input of each layer to uint8 with one step, except
for recurrent layers and attention; all steps start from calibrated ranges and are trained with the weights. The exported
file holds integers and DequantizeLinear, and a batch normalisation after a layer is folded into that layer's steps.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgepack.compression.bit_widths import SOURCES, Rounding, RoundingStep, needs, train_rounded
from edgepack.compression.method import Context, TorchMethod, TorchResult
from edgepack.spec import Train

if TYPE_CHECKING:
    import torch

    from edgepack.torchnet.objective import Objective

Bits = Literal[2, 3, 4, 8]


class TrainQuantized(RoundingStep):
    """Train with weights and activations rounded as the file will hold them: integers with learned steps."""

    method: Literal["train-quantized"]
    weights: Bits = Field(default=8, description="Bits of a weight; 3 are stored as 4.")
    activations: Literal["uint8", "float"] = Field(
        default="uint8",
        description="Round the input of each layer to uint8, except for recurrent layers and attention; or leave activations alone.",
    )
    first_last: Bits = Field(
        default=8,
        description="Bits of the weights of the first and the last layer, and of layers that read an input or return an output.",
    )


def apply(module: "torch.nn.Module", step: TrainQuantized, context: Context) -> TorchResult:
    """Quantize a copy of ``module`` with calibrated ranges, then train weights and steps.

    Metrics: ``layers``: name to bits of a weight ``[before, after]``; ``activations``: layers whose input is uint8;
    ``float_activations``: other layers to the reason, if activations are to be uint8; ``weight_bytes``: all weights of the
    module with their steps ``[before, after]``; ``kept_whole``: name to the reason why a layer was left alone; ``score``: the
    metric ``before``, ``calibrated`` and after ``fine_tune``.

    Raises:
        InputError: there is nothing to quantize, a ``skip`` name is unknown, there are no samples, or training fails.
    """
    rounding = Rounding(step.weights, step.first_last, rebuild, _fit, "calibrated", _objective(step))
    return train_rounded(module, step, context, rounding)


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
    needs=needs,
    leaves=frozenset({"fake-quantized"}),
    destroys={
        "encoded": "the weights are codes already, which it would replace by integers",
        "fake-quantized": "the layers have learned quantizers already; set bits and skip in one step",
    },
    distributions=("torch",),
    sources=(*SOURCES, "compression/train_quantized.py"),
)


def _fit(module: "torch.nn.Module", read: "Mapping[str, torch.Tensor]") -> None:
    """Set all steps to those with the smallest squared error on the weights and the observed activations."""
    from edgepack.torchnet.learned_steps import QuantizedInput, QuantizedWeight
    from edgepack.torchnet.stored import INPUT

    for name, layer in list(module.named_modules()):
        rounding = getattr(layer, INPUT, None)
        if isinstance(rounding, QuantizedInput):
            rounding.fit(read[name])
        for chain in getattr(layer, "parametrizations", {}).values():
            if isinstance(chain[0], QuantizedWeight):
                chain[0].fit(chain.original)


def _objective(step: TrainQuantized) -> "Objective":
    import torch

    from edgepack.torchnet.learned_steps import step_parameters
    from edgepack.torchnet.norms import freezing_norms
    from edgepack.torchnet.objective import Objective

    def optimizer(module: torch.nn.Module, spec: Train) -> torch.optim.Optimizer:
        steps = step_parameters(module)
        known = {id(each) for each in steps}
        others = [each for each in module.parameters() if id(each) not in known]
        groups = [{"params": others, "weight_decay": spec.weight_decay}, {"params": steps}]
        return torch.optim.Adam(groups, lr=spec.lr)

    return Objective(before_step=freezing_norms(step.freeze_batch_norm), state=(), optimizer=optimizer)
