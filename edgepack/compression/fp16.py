"""Weights stored in float16: half the bytes, with 11 bits of precision (Micikevicius et al. 2018, arXiv:1710.03740).

The graph computes in float32, or all of it is converted to float16 by onnxruntime's converter.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field

from edgepack.compression.method import Arithmetic, Context, Fit, Metrics, OnnxMethod, Step


class Fp16(Step):
    """Store weights in float16; compute in float32, or in float16."""

    method: Literal["fp16"]
    compute: Literal["fp32", "fp16", "auto"] = Field(
        default="fp32",
        description="Arithmetic between layers. fp16 needs targets that have it, and loses more accuracy; auto: fp16 if all "
        "targets of the recipe have it, else fp32.",
    )
    skip: tuple[str, ...] = Field(
        default=(),
        description="Layers that stay float32: names of layers or nodes, with * and ? as wildcards.",
    )


def apply(model: Path, out: Path, step: Fp16, context: Context) -> Metrics:
    """Store the weights of ``model`` in float16, in ``out``; its inputs and outputs stay as they are.

    Metrics: ``size`` in bytes ``[before, after]``; ``layers``: constant to its bytes ``[before, after]``; ``sqnr_db``:
    constant to the signal-to-noise ratio; ``kept_whole``: constant to the reason why it stays float32; ``compute``: ``fp32``
    or ``fp16``.

    Raises:
        InputError: no weight is float32, or a ``skip`` name is unknown.
    """
    from edgepack.compression.quantization.halves import convert_file, store_file

    if step.compute == "fp16" or (step.compute == "auto" and context.float16):
        return {**convert_file(model, out, step.skip, step.method), "compute": "fp16"}
    return {**store_file(model, out, "float16", step.skip, step.method), "compute": "fp32"}


def _fit(step: Fp16, targets: Arithmetic) -> Fit:
    without = [name for name, has in targets.items() if not has]
    if step.compute == "fp32" or not targets:
        return Fit()
    if not without:
        return (
            Fit(notes=(f"fp16: {', '.join(targets)} compute in float16",))
            if step.compute == "auto"
            else Fit()
        )
    has = f"{', '.join(without)} {'has' if len(without) == 1 else 'have'} no arithmetic in float16"
    if step.compute == "fp16":
        message = f"{has}: every value would be converted to float32 and back; expected `auto` or `fp32`"
        return Fit(problems=(("compute", message),))
    others = [name for name, computes in targets.items() if computes]
    also = f"; for float16 on {', '.join(others)}, use a recipe of its own" if others else ""
    return Fit(notes=(f"fp16: {has}: weights are stored in float16, and computed with in float32{also}",))


METHOD = OnnxMethod(
    spec=Fp16,
    apply=apply,
    by_target=lambda step: step.compute == "auto",
    fit=_fit,
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
