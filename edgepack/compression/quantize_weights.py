"""Weights as integers of 8, 4 or 2 bits, with scales per channel or per block; activations stay float32.

The file contains DequantizeLinear of integer constants, an encoding that is kept to the compiled model. Rounding can
compensate for its error input by input, as in GPTQ (Frantar et al. 2022, arXiv:2210.17323).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgepack.compression.method import Context, Metrics, Need, OnnxMethod, Step, unused
from edgepack.compression.selection import Skip
from edgepack.compression.sensitive import SOURCES, samples_for
from edgepack.errors import InputError
from edgepack.spec import Seed

if TYPE_CHECKING:
    import onnx

    from edgepack.compression.quantization.rounded import RoundedWeight


class QuantizeWeights(Step):
    """Store weights as integers of 8, 4 or 2 bits; activations stay float."""

    method: Literal["quantize-weights"]
    bits: Literal[8, 4, 2] = Field(default=8, description="Bits of a weight.")
    block_size: int | None = Field(
        default=None,
        ge=8,
        description="Use one scale for this many weights of a channel; by default, for the whole channel.",
    )
    symmetric: bool = Field(
        default=True, description="Zero is the middle of the range; otherwise each scale has a zero point."
    )
    scales: Literal["minmax", "mse"] = Field(
        default="mse", description="Ranges contain all weights, or minimise the squared error of the weights."
    )
    compensate: bool = Field(
        default=False,
        description="Round the inputs of a layer one after the other, adjusting the rest (GPTQ); needs samples.",
    )
    samples: int = Field(
        default=128,
        ge=1,
        description="Samples for compensate, from the training split, or from the recipe's samples.",
    )
    skip: Skip = Field(
        default=(),
        description="Layers that stay float: names of layers or nodes, with * and ? as wildcards; auto or a limit in dB, by "
        "sensitivity.",
    )
    seed: Seed = Field(default=0, description="Seed for choosing the samples.")


def apply(model: Path, out: Path, step: QuantizeWeights, context: Context) -> Metrics:
    """Quantize the weights of ``model`` into ``out``.

    Metrics: ``size`` in bytes ``[before, after]``; ``layers``: weight to its bytes ``[before, after]``; ``sqnr_db``:
    weight to the signal-to-noise ratio after rounding to the nearest; ``kept_whole``: weight to the reason why it was
    left; with ``compensate``: ``samples`` and ``output_sqnr_db``, weight to the ratio of the layer's outputs
    ``[nearest, compensated]``, where it can be computed.

    Raises:
        InputError: nothing gets smaller, a ``skip`` name is unknown, or there are no samples for ``compensate``.
    """
    from edgepack.compression.quantization.layers import arrays, selected, weights
    from edgepack.compression.quantization.rounded import RoundedWeight
    from edgepack.compression.weights_as_integers import encoded, none_left, sensitive_weights
    from edgepack.onnxfile import load_onnx, save_onnx

    proto = load_onnx(model)
    found = weights(proto.graph)
    kept = dict.fromkeys(selected(found, step.skip, step.method), "skipped by the recipe")
    plans = {}
    for name, array in arrays(proto.graph, [each for each in found if each not in kept]):
        plan = RoundedWeight.nearest(
            found[name],
            array,
            step.bits,
            symmetric=step.symmetric,
            fit=step.scales,
            block=step.block_size or 0,
        )
        if plan.bytes < array.nbytes:
            plans[name] = plan
        else:
            kept[name] = f"{plan.bytes} bytes with its scales, {array.nbytes} without"
    sensitive = sensitive_weights(model, plans, step.skip, context, step.method)
    plans = {name: plan for name, plan in plans.items() if name not in sensitive}
    kept |= sensitive
    if not plans:
        raise InputError(
            "no weight gets smaller",
            where=str(model),
            why="; ".join(f"{name}: {why}" for name, why in list(kept.items())[:4]) or none_left(proto),
            next="remove quantize-weights, or skip fewer layers",
        )
    metrics: dict[str, Any] = {
        "bits": step.bits,
        "layers": {name: [plan.array.nbytes, plan.bytes] for name, plan in plans.items()},
        "sqnr_db": {name: plan.sqnr_db for name, plan in plans.items()},
        "kept_whole": kept,
    }
    if step.compensate:
        metrics |= _compensate(model, proto.graph, plans, step, context)
    save_onnx(encoded(proto, plans, str(model)), out)
    context.progress("quantized", 1.0)
    return {**metrics, "size": [model.stat().st_size, out.stat().st_size]}


def _needs(step: QuantizeWeights) -> tuple[Need, ...]:
    compensates = (Need("samples", "compensation", "compensate"),) if step.compensate else ()
    return (*compensates, *samples_for(step.skip))


def _conflicts(step: QuantizeWeights) -> tuple[tuple[str, str], ...]:
    return unused(step, "samples", used=step.compensate, by="`compensate: true`")


METHOD = OnnxMethod(
    spec=QuantizeWeights,
    apply=apply,
    needs=_needs,
    conflicts=_conflicts,
    leaves=frozenset({"quantized"}),
    destroys={
        "half": "weights in 16 bits are not read as float32; use one of the two",
    },
    distributions=("onnx", "onnxruntime", "numpy", "torch"),
    sources=(
        *SOURCES,
        "compression/feeding.py",
        "compression/quantization",
        "compression/quantize_weights.py",
        "compression/weights_as_integers.py",
    ),
)


def _compensate(
    model: Path,
    graph: "onnx.GraphProto",
    plans: "dict[str, RoundedWeight]",
    step: QuantizeWeights,
    context: Context,
) -> Metrics:
    """Round the weights of ``plans``, in place, with compensation, where that lowers the error of the outputs."""
    from edgepack.compression.quantization.feeds import feeds_of
    from edgepack.compression.quantization.statistics import moments

    feeds = feeds_of(graph, context, model, samples=step.samples, seed=step.seed, method="quantize-weights")
    ratios: dict[str, list[float | None]] = {}
    shapes = [plan.array.shape for plan in plans.values()]
    for weight, measured in moments(
        model, [plan.weight for plan in plans.values()], shapes, feeds.batches, context.progress
    ):
        if measured is None:
            continue
        before = plans[weight.name]
        after = before.compensated(measured)
        ratios[weight.name] = [before.output_sqnr_db(measured), after.output_sqnr_db(measured)]
        plans[weight.name] = after
    return {"samples": feeds.count, "output_sqnr_db": ratios}
