"""Weights as int8, and activations as uint8 with ranges that are determined at run time, from the values themselves.

The file contains DynamicQuantizeLinear and DequantizeLinear in front of each layer, and DequantizeLinear of its weights,
around float operators. onnxruntime's own form, DynamicQuantizeLinear and MatMulInteger, computes something else on
x86-64 without VNNI, where its integer sums saturate; it also hides which integers are weights.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgepack.compression.method import Context, Metrics, OnnxMethod, Step
from edgepack.compression.selection import Skip
from edgepack.compression.sensitive import SOURCES, samples_for
from edgepack.errors import InputError

if TYPE_CHECKING:
    import onnx


class QuantizeDynamic(Step):
    """Quantize weights to int8, and activations to uint8 with ranges determined at run time."""

    method: Literal["quantize-dynamic"]
    per_channel: bool = Field(default=True, description="Use one weight scale per output channel.")
    scales: Literal["minmax", "mse"] = Field(
        default="minmax",
        description="Ranges contain all weights, or minimise the squared error of the weights.",
    )
    skip: Skip = Field(
        default=(),
        description="Layers that stay float: names of layers or nodes, with * and ? as wildcards; auto or a limit in dB, by "
        "sensitivity.",
    )


def apply(model: Path, out: Path, step: QuantizeDynamic, context: Context) -> Metrics:
    """Quantize ``model`` into ``out``. No samples are needed, unless ``skip`` measures how sensitive weights are.

    Metrics: ``size`` in bytes ``[before, after]``; ``layers``: weight to its bytes ``[before, after]``; ``sqnr_db``:
    weight to its signal-to-noise ratio; ``kept_whole``: weight to the reason why it was left; ``activations``: number
    of tensors that are quantized at run time. The weights of embeddings and recurrent layers are quantized, their
    activations are not.

    Raises:
        InputError: nothing gets smaller, or a ``skip`` name is unknown.
    """
    from edgepack.compression.quantization.encoding import Form, form_of
    from edgepack.compression.quantization.layers import WEIGHTED, arrays, selected, weights
    from edgepack.compression.quantization.rounded import RoundedWeight
    from edgepack.compression.weights_as_integers import encoded, none_left, sensitive_weights
    from edgepack.onnxfile import load_onnx, save_onnx

    proto = load_onnx(model)
    found = weights(proto.graph)
    kept = dict.fromkeys(selected(found, step.skip, step.method), "skipped by the recipe")
    plans: dict[str, RoundedWeight] = {}
    for name, array in arrays(proto.graph, [each for each in found if each not in kept]):
        form = form_of(found[name], array.shape) if step.per_channel else Form(array.shape, None)
        plan = RoundedWeight.on(found[name], array, form, 8, symmetric=True, fit=step.scales)
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
            next="remove quantize-dynamic, or skip fewer layers",
        )
    users = {
        user for plan in plans.values() if plan.weight.operator in WEIGHTED for user in plan.weight.users
    }
    activations = _quantize_inputs(proto.graph, users, set(plans))
    save_onnx(encoded(proto, plans, str(model)), out)
    context.progress("quantized", 1.0)
    metrics: dict[str, Any] = {
        "size": [model.stat().st_size, out.stat().st_size],
        "layers": {name: [plan.array.nbytes, plan.bytes] for name, plan in plans.items()},
        "sqnr_db": {name: plan.sqnr_db for name, plan in plans.items()},
        "kept_whole": kept,
        "activations": activations,
    }
    return metrics


METHOD = OnnxMethod(
    spec=QuantizeDynamic,
    apply=apply,
    needs=lambda step: samples_for(step.skip),
    leaves=frozenset({"quantized"}),
    destroys={
        "quantized": "its weights are integers already",
        "half": "weights in 16 bits are not read as float32",
    },
    distributions=("onnx", "numpy", "torch"),
    sources=(
        *SOURCES,
        "compression/feeding.py",
        "compression/quantization",
        "compression/quantize_dynamic.py",
        "compression/weights_as_integers.py",
    ),
)


def _quantize_inputs(graph: "onnx.GraphProto", users: set[str], constants: set[str]) -> int:
    """Quantize, in place, what the layers ``users`` read beside constants and biases; returns the number of tensors."""
    from onnx import helper

    from edgepack.onnxfile.protos import replace_all

    behind = {
        node.output[0] for node in graph.node if node.op_type == "Transpose" and node.input[0] in constants
    }
    done: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for position in range(2) if node.name in users else ():
            name = node.input[position]
            if name in constants or name in behind:
                continue
            if name not in done:
                done[name] = f"{name}_dequantized"
                parts = [f"{name}_{part}" for part in ("quantized", "scale", "zero_point")]
                nodes += [
                    helper.make_node("DynamicQuantizeLinear", [name], parts, name=f"{name}_quantize"),
                    helper.make_node("DequantizeLinear", parts, [done[name]], name=f"{name}_dequantize"),
                ]
            node.input[position] = done[name]
        nodes.append(node)
    replace_all(graph.node, nodes)
    return len(done)
