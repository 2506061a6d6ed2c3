"""Static quantization in Q/DQ form, with onnxruntime's quantizer.

Weights become int8 with per-channel scales; activations have per-tensor scales, determined by running calibration
samples of the training split. The file contains QuantizeLinear and DequantizeLinear around float operators (Q/DQ), which
all compilers support; see Jacob et al. 2018, arXiv:1712.05877, for the arithmetic and Nagel et al. 2021,
arXiv:2106.08295, for what else improves it.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.temporary import temporary_folder
from edgepack.compression.method import Context, Metrics, Need, OnnxMethod, unused
from edgepack.compression.quantization.options import QuantizeStatic
from edgepack.compression.selection import select
from edgepack.errors import InputError

if TYPE_CHECKING:
    import onnx


def apply(model: Path, out: Path, step: QuantizeStatic, context: Context) -> Metrics:
    """Quantize ``model`` into ``out``.

    Metrics: ``samples`` used; ``calibrated_on``: ``samples`` or ``batch normalisation statistics``; ``size`` in bytes
    ``[before, after]``; ``quantized`` and ``float``: number of nodes with weights of each kind; with ``equalise``:
    ``equalised``, the pairs of weights; with another rounding or ``correct_bias``: ``output_sqnr_db``, weight to the ratio
    of the layer's outputs in dB ``[nearest, this rounding]``, ``kept_nearest``, weights for which it cannot be computed, and
    ``corrected``, weights whose layer's bias was changed; with ``skip: auto`` or a number: ``kept_whole``, weight to the
    reason why its layer stays float, also where an earlier step has encoded it; with ``mixed``: ``mixed``, as
    :func:`edgepack.compression.quantization.mixed.choose` returns it.

    Raises:
        InputError: if there are no samples, they do not match the model's inputs, a ``skip`` name is unknown, or no weight
            is left to quantize; with ``data_free``, if the source has no batch normalisation.
    """
    from edgepack.compression.quantization.feeds import feeds_of
    from edgepack.compression.quantization.qdq import weighted_nodes
    from edgepack.compression.quantization.static import Quantization
    from edgepack.onnxfile import load_onnx, save_onnx
    from edgepack.onnxfile.quiet import quiet

    graph = load_onnx(model).graph
    left = _select_skipped(graph, step.skip) if isinstance(step.skip, tuple) else []
    if step.data_free:
        from edgepack.compression.quantization.synthetic import made_feeds

        feeds = made_feeds(graph, context, model, samples=step.samples, seed=step.seed)
    else:
        feeds = feeds_of(graph, context, model, samples=step.samples, seed=step.seed, method=step.method)
    with temporary_folder(prefix="edgepack-quantize-") as folder, quiet():
        quantization = Quantization.prepare(model, Path(folder), step, feeds, context)
        if not isinstance(step.skip, tuple):
            left = quantization.sensitive(context)
        result = quantization.write(left, quantization.mixed(left, context))
    stays = {tensor.name for tensor in result.graph.initializer}
    if stays.issuperset(quantization.found):
        kept = quantization.metrics.get("kept_whole", {})
        raise InputError(
            "quantize-static would quantize no weight",
            where=str(model),
            why="; ".join(f"{name}: {why}" for name, why in list(kept.items())[:4]) or None,
            next=f"{'raise mixed.drop, ' if step.mixed is not None else ''}skip fewer layers, or remove quantize-static",
        )
    save_onnx(result, out)
    n_quantized, n_float = weighted_nodes(result.graph, ("Conv", "ConvTranspose", "Gemm", "MatMul"))
    context.progress("quantized", 1.0)
    return {
        "samples": feeds.count,
        "calibrated_on": "batch normalisation statistics" if step.data_free else "samples",
        "size": [model.stat().st_size, out.stat().st_size],
        "quantized": n_quantized,
        "float": n_float,
        **quantization.metrics,
    }


def _needs(step: QuantizeStatic) -> tuple[Need, ...]:
    return (
        (Need("teacher", "calibration", "data_free"),)
        if step.data_free
        else (Need("samples", "calibration"),)
    )


def _conflicts(step: QuantizeStatic) -> tuple[tuple[str, str], ...]:
    return (
        *unused(step, "percentile", used=step.calibration == "percentile", by="`calibration: percentile`"),
        *unused(step, "iterations", used=step.rounding == "learned", by="`rounding: learned`"),
    )


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
    sources=(
        "compression/batches.py",
        "compression/feeding.py",
        "compression/quantization",
        "compression/quantize_static.py",
        "compression/selection.py",
    ),
)


def _select_skipped(graph: "onnx.GraphProto", patterns: tuple[str, ...]) -> list[str]:
    constants = {tensor.name for tensor in graph.initializer}
    names = {node.name: (node.name, _layer(node, constants)) for node in graph.node}
    return select(patterns, names, kind="layer or node", where="compress, quantize-static, skip")


def _layer(node: "onnx.NodeProto", constants: set[str]) -> str:
    """Return the name of the layer whose weights the node uses: ``stem.0`` for ``stem.0.weight``."""
    weights = [name for name in node.input if name in constants]
    return weights[0].rpartition(".")[0] if weights else ""
