"""Static quantization in Q/DQ form, with onnxruntime's quantizer.

Weights become int8 with per-channel scales; activations have per-tensor scales, determined by running calibration
samples of the training split. The file contains QuantizeLinear and DequantizeLinear around float operators (Q/DQ), which
all compilers support; see Jacob et al. 2018, arXiv:1712.05877, for the arithmetic and Nagel et al. 2021,
arXiv:2106.08295, for what else improves it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgepack.base.temporary import temporary_folder
from edgepack.compression.method import Context, Metrics, Need, OnnxMethod, Step, require_consistent
from edgepack.compression.selection import select
from edgepack.spec import Spec

if TYPE_CHECKING:
    import onnx

Precision = Literal["int16", "fp16", "fp32"]


class MixedPrecision(Spec):
    """Keep the most sensitive layers in a higher precision."""

    drop: float = Field(
        default=0.001,
        ge=0,
        description="Layers are kept in a higher precision until the metric on the calibration samples is at most this "
        "much worse than before quantization; without targets, until that share of the outputs' energy is noise.",
    )
    precisions: tuple[Precision, ...] = Field(
        default=("int16", "fp32"),
        description="The higher precisions, in order: activations of 16 bits; weights in float16; float32.",
    )


class QuantizeStatic(Step):
    """Quantize weights per channel and activations per tensor to int8, calibrated on samples."""

    method: Literal["quantize-static"]
    samples: int = Field(
        default=256,
        ge=1,
        description="Calibration samples, from the training split, or from the recipe's samples.",
    )
    data_free: bool = Field(
        default=False,
        description="Calibrate on inputs made from the statistics of batch normalisation, for want of samples.",
    )
    calibration: Literal["minmax", "entropy", "percentile", "mse"] = Field(
        default="minmax", description="How the range of an activation is determined from the samples."
    )
    percentile: float = Field(
        default=99.99, gt=50, le=100, description="Values within the range, for calibration: percentile."
    )
    activations: Literal["uint8", "int8", "uint16", "int16"] = Field(
        default="uint8", description="Activations as asymmetric uint8 or uint16, or as symmetric int8 or int16."
    )
    weights: Literal["int8", "uint8"] = Field(
        default="int8", description="Weights as symmetric int8, or as asymmetric uint8 with a zero point per channel."
    )
    weight_scales: Literal["minmax", "mse"] = Field(
        default="minmax", description="Ranges contain all weights, or minimise the squared error of the weights."
    )
    per_channel: bool = Field(default=True, description="Use one weight scale per output channel.")
    equalise: bool = Field(
        default=False, description="First scale channels so that neighbouring layers have similar ranges."
    )
    rounding: Literal["nearest", "learned"] = Field(
        default="nearest",
        description="Round weights to the nearest, or learn whether up or down from the layer's outputs (AdaRound).",
    )
    iterations: int = Field(default=1000, ge=1, description="Steps of the optimizer for learned rounding, per layer.")
    correct_bias: bool = Field(
        default=False, description="Change biases so that the means of the layers' outputs stay."
    )
    mixed: MixedPrecision | None = Field(
        default=None, description="Keep the most sensitive layers in a higher precision."
    )
    skip: tuple[str, ...] = Field(
        default=(), description="Layers that stay float: names of layers or nodes, with * and ? as wildcards."
    )
    seed: int = Field(default=0, description="Seed for choosing the calibration samples.")


def apply(model: Path, out: Path, step: QuantizeStatic, context: Context) -> Metrics:
    """Quantize ``model`` into ``out``.

    Metrics: ``samples`` used; ``size`` in bytes ``[before, after]``; ``quantized`` and ``float``: number of
    nodes with weights of each kind; ``layers``: weight to its bytes ``[before, after]``; ``calibrated_on``: ``samples`` or
    ``batch normalisation statistics``; with ``equalise``: ``equalised``, number of pairs of layers; with ``rounding``
    or ``correct_bias``: ``output_sqnr_db``, weight to the ratio of the layer's outputs ``[nearest, learned]``, and
    ``kept_nearest``, weights for which it cannot be computed; with ``mixed``: ``mixed``, as
    :func:`edgepack.compression.quantization.mixed.choose` returns it.

    Raises:
        InputError: if there are no samples, they do not match the model's inputs, or a ``skip`` name is unknown.
    """
    from edgepack.compression.quantization.qdq import weighted_nodes
    from edgepack.compression.quantization.static import Quantization
    from edgepack.onnxfile import canonicalise, load_onnx, save_onnx
    from edgepack.onnxfile.quiet import quiet

    require_consistent(step, _conflicts(step))
    graph = load_onnx(model).graph
    skipped = _select_skipped(graph, step.skip)
    with temporary_folder(prefix="edgepack-quantize-") as folder, quiet():
        quantization = Quantization.prepare(model, Path(folder), step, context)
        written, mixed = quantization.run(skipped)
        result = canonicalise(written)
    save_onnx(result, out)
    n_quantized, n_float = weighted_nodes(result.graph, ("Conv", "ConvTranspose", "Gemm", "MatMul"))
    context.progress("quantized", 1.0)
    metrics: dict[str, Any] = {
        **quantization.metrics,
        "size": [model.stat().st_size, out.stat().st_size],
        "quantized": n_quantized,
        "float": n_float,
    }
    return {**metrics, "mixed": mixed} if mixed else metrics


def _needs(step: QuantizeStatic) -> tuple[Need, ...]:
    return (Need("teacher", "calibration", "data_free"),) if step.data_free else (Need("samples", "calibration"),)


def _conflicts(step: QuantizeStatic) -> tuple[tuple[str, str], ...]:
    """Options that have no effect together."""
    found = []
    if not step.per_channel and step.weights == "uint8" and step.activations.startswith("int"):
        found.append(("weights", "asymmetric weights with symmetric activations have no integer kernels anywhere"))
    return tuple(found)


METHOD = OnnxMethod(
    spec=QuantizeStatic,
    apply=apply,
    needs=_needs,
    conflicts=_conflicts,
    leaves=frozenset({"quantized"}),
    destroys={
        "quantized": "its activations or weights are quantized already",
        "half": "weights in 16 bits are not read as float32",
    },
    distributions=("onnx", "onnxruntime", "numpy", "torch"),
    sources=("compression/quantization", "compression/quantize_static.py", "compression/selection.py"),
)


def _select_skipped(graph: "onnx.GraphProto", patterns: tuple[str, ...]) -> list[str]:
    constants = {tensor.name for tensor in graph.initializer}
    names = {node.name: (node.name, _layer(node, constants)) for node in graph.node}
    return select(patterns, names, kind="layer or node", where="compress, quantize-static, skip")


def _layer(node: "onnx.NodeProto", constants: set[str]) -> str:
    """Return the name of the layer whose weights the node uses: ``stem.0`` for ``stem.0.weight``."""
    weights = [name for name in node.input if name in constants]
    return weights[0].rpartition(".")[0] if weights else ""
