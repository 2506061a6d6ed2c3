"""Static int8 quantization in Q/DQ form, with onnxruntime's quantizer.

Weights become symmetric int8 with per-channel scales; activations have per-tensor scales, determined by
running calibration samples of the training split. The file contains QuantizeLinear and DequantizeLinear
around float operators (Q/DQ), which all compilers support; see Jacob et al. 2018, arXiv:1712.05877, for
the arithmetic and Wu et al. 2020, arXiv:2004.09602, for the calibration methods.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgepack.base.temporary import temporary_folder
from edgepack.compression.feeding import chosen, training_feeds
from edgepack.compression.method import Context, Metrics, Need, OnnxMethod, Step
from edgepack.compression.selection import select
from edgepack.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import onnx


class QuantizeStatic(Step):
    """Quantize weights per channel and activations per tensor to int8, calibrated on samples."""

    method: Literal["quantize-static"]
    samples: int = Field(
        default=256,
        ge=1,
        description="Calibration samples, from the training split, or from the recipe's samples.",
    )
    calibration: Literal["minmax", "entropy", "percentile"] = Field(
        default="minmax", description="How the range of an activation is determined from the samples."
    )
    activations: Literal["uint8", "int8"] = Field(
        default="uint8", description="Activations as asymmetric uint8, or as symmetric int8."
    )
    per_channel: bool = Field(default=True, description="Use one weight scale per output channel.")
    skip: tuple[str, ...] = Field(
        default=(), description="Layers that stay float: names of layers or nodes, with * and ? as wildcards."
    )
    seed: int = Field(default=0, description="Seed for choosing the calibration samples.")


def apply(model: Path, out: Path, step: QuantizeStatic, context: Context) -> Metrics:
    """Quantize ``model`` into ``out``.

    Metrics: ``samples`` used; ``size`` in bytes ``[before, after]``; ``quantized`` and ``float``: number of
    nodes with weights of each kind.

    Raises:
        InputError: if there are no samples, they do not match the model's inputs, or a ``skip`` name is unknown.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from edgepack.onnxfile import canonicalise, load_onnx, save_onnx
    from edgepack.onnxfile.quiet import quiet

    graph = load_onnx(model).graph
    skipped = _select_skipped(graph, step.skip)
    feeds = _calibration_batches(graph, step, context, model)
    methods = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }
    symmetric = step.activations == "int8"
    with temporary_folder(prefix="edgepack-quantize-") as folder, quiet():
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        # skip refers to names; onnxruntime's optimiser would fuse and rename nodes.
        quant_pre_process(str(model), str(prepared), skip_optimization=True, skip_symbolic_shape=True)
        _make_exact(prepared)
        context.progress(f"calibrating on {len(feeds)} batches", 0.1)
        quantize_static(
            str(prepared),
            str(quantized),
            _reader(feeds),
            quant_format=QuantFormat.QDQ,
            per_channel=step.per_channel,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=skipped,
            calibrate_method=methods[step.calibration],
            extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": True},
        )
        result = canonicalise(onnx.load(quantized))
    save_onnx(result, out)
    n_quantized, n_float = _weighted_nodes(result.graph)
    context.progress("quantized", 1.0)
    return {
        "samples": sum(_batch_size(feed) for feed in feeds),
        "size": [model.stat().st_size, out.stat().st_size],
        "quantized": n_quantized,
        "float": n_float,
    }


METHOD = OnnxMethod(
    spec=QuantizeStatic,
    apply=apply,
    needs=lambda _: (Need("samples", "calibration"),),
    leaves=frozenset({"quantized"}),
    distributions=("onnx", "onnxruntime", "numpy"),
    sources=("compression/feeding.py", "compression/quantize_static.py", "compression/selection.py"),
)


def _make_exact(path: Path) -> None:
    """Write integer products that the file holds already so that the calibrator computes what the reference does.

    The calibrator runs the file without graph optimisations, as the reference does, and knows nothing of saturation.
    """
    import onnx

    from edgepack.onnxfile.integers import exact_integers

    model = onnx.load(path)
    if exact_integers(model, path):
        onnx.save(model, path)


def _layer(node: "onnx.NodeProto", constants: set[str]) -> str:
    """Return the name of the layer whose weights the node uses: ``stem.0`` for ``stem.0.weight``."""
    weights = [name for name in node.input if name in constants]
    return weights[0].rpartition(".")[0] if weights else ""


def _select_skipped(graph: "onnx.GraphProto", patterns: tuple[str, ...]) -> list[str]:
    constants = {tensor.name for tensor in graph.initializer}
    names = {node.name: (node.name, _layer(node, constants)) for node in graph.node}
    return select(patterns, names, kind="layer or node", where="compress, quantize-static, skip")


def _calibration_batches(
    graph: "onnx.GraphProto", step: QuantizeStatic, context: Context, model: Path
) -> "list[dict[str, np.ndarray]]":
    """Return random samples in batches of the model's size: the recipe's, or of the training split."""
    if context.samples is not None:
        return _chosen_samples(context.samples, step)
    if context.data is None:
        raise InputError(
            "calibration needs samples",
            next="add `samples` or a data block to the recipe, or remove quantize-static",
        )
    rows = chosen(context, step.samples, step.seed)
    return training_feeds(graph, context.data.x_train, rows, where=str(model))


def _chosen_samples(
    samples: "Mapping[str, np.ndarray]", step: QuantizeStatic
) -> "list[dict[str, np.ndarray]]":
    """As many of the recipe's samples as the step wants, each of them one batch."""
    import numpy as np

    count = min(len(array) for array in samples.values())
    batch = max((array.shape[1] for array in samples.values() if array.ndim > 1), default=1)
    chosen = np.random.default_rng(step.seed).permutation(count)[: -(-step.samples // batch)]
    return [{name: array[index] for name, array in samples.items()} for index in chosen]


def _batch_size(feed: "dict[str, np.ndarray]") -> int:
    first = next(iter(feed.values()))
    return len(first) if first.ndim else 1


def _reader(feeds: "list[dict[str, np.ndarray]]") -> Any:
    """Wrap the feeds in onnxruntime's calibration interface."""
    from onnxruntime.quantization import CalibrationDataReader

    class CalibrationBatches(CalibrationDataReader):  # type: ignore[misc] # onnxruntime is untyped
        def __init__(self) -> None:
            self._feeds = iter(feeds)

        def get_next(self) -> "dict[str, np.ndarray] | None":
            return next(self._feeds, None)

    return CalibrationBatches()


def _weighted_nodes(graph: "onnx.GraphProto") -> tuple[int, int]:
    """Count convolutions and matrix products with dequantized weights, and those with float weights."""
    constants = {tensor.name for tensor in graph.initializer}
    dequantized = {
        n.output[0] for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants
    }
    weighted = [n for n in graph.node if n.op_type in {"Conv", "ConvTranspose", "Gemm", "MatMul"}]
    quantized = sum(n.input[1] in dequantized for n in weighted)
    return quantized, sum(n.input[1] in constants for n in weighted)
