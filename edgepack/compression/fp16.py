"""Weights stored in float16: half the bytes, with 11 bits of precision (Micikevicius et al. 2018, arXiv:1710.03740).

The graph computes in float32, or all of it is converted to float16 by onnxruntime's converter.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field

from edgepack.compression.method import Context, Metrics, OnnxMethod, Step


class Fp16(Step):
    """Store weights in float16; compute in float32, or in float16."""

    method: Literal["fp16"]
    compute: Literal["fp32", "fp16"] = Field(
        default="fp32",
        description="Arithmetic between layers; fp16 needs a target that has it to be fast, and loses more accuracy.",
    )
    skip: tuple[str, ...] = Field(
        default=(),
        description="Layers that stay float32: names of layers or nodes, with * and ? as wildcards.",
    )


def apply(model: Path, out: Path, step: Fp16, context: Context) -> Metrics:
    """Store the weights of ``model`` in float16, in ``out``; its inputs and outputs stay as they are.

    Metrics: ``size`` in bytes ``[before, after]``; ``layers``: constant to its bytes ``[before, after]``; ``sqnr_db``:
    constant to the signal-to-noise ratio; ``kept_whole``: constant to the reason why it stays float32; ``compute``.

    Raises:
        InputError: no weight is float32, or a ``skip`` name is unknown.
    """
    from edgepack.compression.quantization.halves import convert_file, store_file

    del context
    if step.compute == "fp16":
        return {**convert_file(model, out, step.skip, step.method), "compute": step.compute}
    return {**store_file(model, out, "float16", step.skip, step.method), "compute": step.compute}


METHOD = OnnxMethod(
    spec=Fp16,
    apply=apply,
    leaves=frozenset({"half"}),
    destroys={"half": "its weights are in 16 bits already"},
    distributions=("onnx", "onnxruntime", "numpy"),
    sources=(
        "compression/batches.py",
        "compression/feeding.py",
        "compression/fp16.py",
        "compression/quantization",
        "compression/selection.py",
    ),
)
