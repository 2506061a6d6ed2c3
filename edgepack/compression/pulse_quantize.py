"""Pyramid vector quantization: a vector of weights is a few unit pulses times a scale.

Fischer 1986 (IEEE Transactions on Information Theory 32, 568-583): the points of a pyramid are the integer vectors whose
absolute values sum up to K. The search for the nearest one is that of Valin et al. 2012 (RFC 6716, section 5.3.8.1).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgepack.compression.encoding import (
    SOURCES,
    Encoded,
    EncodingStep,
    encode_weights,
    needs,
    rebuild_weights,
)
from edgepack.compression.method import Context, TorchMethod, TorchResult
from edgepack.compression.product_quantize import vector_size

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from edgepack.torchnet.encodable import StoredForm

_MOST = 127  # pulses at one place


class PulseQuantize(EncodingStep):
    """Write vectors of weights as unit pulses with one scale each, and fine-tune the scales."""

    method: Literal["pulse-quantize"]
    size: int = Field(
        default=64,
        ge=2,
        le=1 << 12,
        description="Weights per vector: the nearest divisor of a row's weights.",
    )
    pulses: float = Field(
        default=1.0, gt=0, le=16, description="Pulses per weight: a vector has this times its size, rounded."
    )


def apply(module: "nn.Module", step: PulseQuantize, context: Context) -> TorchResult:
    """Quantize the weights of a copy of ``module``; weights that are zero get no pulses.

    Metrics: as :func:`edgepack.compression.encoding.encode_weights`.

    Raises:
        InputError: as ``encode_weights``.
    """

    def encoder(weight: "torch.Tensor", _: int) -> Encoded | str:
        import torch

        size = vector_size(tuple(weight.shape), step.size)
        count = min(max(round(step.pulses * size), 1), _MOST)
        if size < 2:  # noqa: PLR2004 - vectors of one element
            return "its rows cannot be divided into vectors"
        vectors = weight.reshape(-1, size)
        pulses = nearest_pulses(vectors.numpy(), count)
        (form,) = forms = _forms({"size": size}, tuple(weight.shape))
        form.pulses.copy_(torch.from_numpy(pulses))
        points = form.pulses.to(weight)
        # The scale with the smallest squared error.
        scale = (vectors * points).sum(1, keepdim=True) / points.square().sum(1, keepdim=True).clamp_min(1)
        return Encoded({"size": size}, forms, [scale])

    return encode_weights(module, step, context, encoder)


def nearest_pulses(vectors: "np.ndarray", count: int) -> "np.ndarray":
    """Return for each of ``vectors`` ``[N, size]`` the direction of ``count`` unit pulses next to its own, as int8.

    Pulses are placed by rounding down, then one at a time where they raise the cosine most. Vectors of zeros get none.
    """
    import numpy as np

    sizes = np.abs(vectors).astype("float64")
    total = sizes.sum(1, keepdims=True)
    placed = np.floor(count * sizes / np.where(total > 0, total, 1))
    along = (sizes * placed).sum(1, keepdims=True)
    energy = (placed**2).sum(1, keepdims=True)
    left = np.where(total[:, 0] > 0, count - placed.sum(1), 0).astype(int)
    rows = np.arange(len(vectors))
    for done in range(int(left.max(initial=0))):
        gain = np.where(sizes > 0, (along + sizes) ** 2 / (energy + 2 * placed + 1), -1)
        best = gain.argmax(1)
        more = left > done
        at, where = rows[more], best[more]
        along[at, 0] += sizes[at, where]
        energy[at, 0] += 2 * placed[at, where] + 1
        placed[at, where] += 1
    pulses: np.ndarray = (np.sign(vectors) * placed).astype("int8")
    return pulses


def rebuild(module: "nn.Module", change: Mapping[str, Any]) -> "nn.Module":
    """Give the recorded weights pulses and scales, which are loaded later."""
    return rebuild_weights(module, change, _forms)


def _forms(record: Mapping[str, Any], shape: tuple[int, ...]) -> "Sequence[StoredForm]":
    import math

    import torch

    from edgepack.torchnet.codebooks import UnitPulses

    size = record["size"]
    return [UnitPulses(torch.zeros(math.prod(shape) // size, size), shape)]


METHOD = TorchMethod(
    spec=PulseQuantize,
    apply=apply,
    rebuild=rebuild,
    needs=needs,
    leaves=frozenset({"encoded"}),
    destroys={"fake-quantized": "the weights are integers already; cluster shares them"},
    distributions=("torch", "numpy"),
    sources=(
        "compression/kmeans.py",
        "compression/product_quantize.py",
        "compression/pulse_quantize.py",
        *SOURCES,
    ),
)
