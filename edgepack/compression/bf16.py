"""Weights stored in bfloat16, and computed with in float32: the range of float32, with 8 bits of precision."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from edgepack.compression.method import Context, Metrics, OnnxMethod, Step


class Bf16(Step):
    """Store weights in bfloat16; they are computed with in float32."""

    method: Literal["bf16"]
    skip: tuple[str, ...] = Field(
        default=(),
        description="Layers that stay float32: names of layers or nodes, with * and ? as wildcards.",
    )


def apply(model: Path, out: Path, step: Bf16, context: Context) -> Metrics:
    """Store the weights of ``model`` in bfloat16, in ``out``.

    Metrics: as :func:`edgepack.compression.fp16.apply`.

    Raises:
        InputError: no weight is float32, or a ``skip`` name is unknown.
    """
    from edgepack.compression.quantization.halves import store_file

    del context
    return store_file(model, out, "bfloat16", step.skip, step.method)


METHOD = OnnxMethod(
    spec=Bf16,
    apply=apply,
    leaves=frozenset({"half"}),
    destroys={"half": "its weights are in 16 bits already"},
    distributions=("onnx", "onnxruntime", "numpy"),
    sources=(
        "compression/bf16.py",
        "compression/batches.py",
        "compression/feeding.py",
        "compression/quantization",
        "compression/selection.py",
    ),
)
