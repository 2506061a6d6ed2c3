"""Vector codebooks: each few consecutive weights are one of the vectors of a table per layer.

Product quantization of weights (Gong et al. 2014, arXiv:1412.6115; Stock et al. 2020, arXiv:1907.05686), with the mean of
each row removed before (mean-removed vector quantization: Gersho and Gray 1992, chapter 12).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgepack.compression.encoding import (
    SOURCES,
    Encoded,
    EncodingStep,
    encode_weights,
    masked,
    needs,
    rebuild_weights,
)
from edgepack.compression.method import Context, TorchMethod, TorchResult

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgepack.torchnet.encodable import StoredForm

_FEW = 4  # vectors per table entry, at least (Stock et al. 2020, section 4.1)


class ProductQuantize(EncodingStep):
    """Let vectors of consecutive weights share a table per layer, found by k-means and fine-tuned."""

    method: Literal["product-quantize"]
    entries: int = Field(
        default=256,
        ge=2,
        le=1 << 15,
        description="Vectors per table; at most a quarter of a layer's vectors.",
    )
    size: int = Field(
        default=8,
        ge=2,
        le=256,
        description="Weights per vector: the nearest divisor of a row's weights, or a whole kernel of a convolution.",
    )
    remove_mean: bool = Field(
        default=True,
        description="Store the mean of each row, an output channel's weights, besides its vectors.",
    )


def apply(module: "nn.Module", step: ProductQuantize, context: Context) -> TorchResult:
    """Quantize the weights of a copy of ``module``.

    Metrics: as :func:`edgepack.compression.encoding.encode_weights`.

    Raises:
        InputError: as ``encode_weights``.
    """

    def encoder(weight: "torch.Tensor", _: int) -> Encoded | str:
        import torch

        from edgepack.compression.kmeans import cluster_vectors

        size = vector_size(tuple(weight.shape), step.size)
        if size < 2:  # noqa: PLR2004 - vectors of one element
            return "its rows cannot be divided into vectors"
        pruned = bool((weight == 0).any()) and bool((weight != 0).any())
        # The mean of a pruned row would have to be added to its zeros as well.
        remove_mean = step.remove_mean and not pruned
        rows = weight.reshape(len(weight), -1)
        means = rows.mean(1, keepdim=True)
        vectors = (rows - means if remove_mean else rows).reshape(-1, size)
        entries = min(step.entries, len(vectors) // _FEW)
        if entries < 2:  # noqa: PLR2004 - a table of one vector
            return f"it has only {len(vectors)} vectors"
        empty = (vectors == 0).all(1)
        zero = bool(empty.any()) and not bool(empty.all())
        codes = torch.zeros(len(vectors), dtype=torch.int64)
        kept = ~empty if zero else torch.ones_like(empty)
        centres, found = cluster_vectors(vectors[kept].numpy(), entries - zero, step.seed)
        codes[kept] = torch.from_numpy(found) + zero
        record = {"entries": len(centres) + zero, "size": size, "zero": zero, "means": remove_mean}
        (form,) = _forms(record, tuple(weight.shape))
        form.codes.copy_(codes)
        stored = [torch.from_numpy(centres).to(weight), *([means] if remove_mean else [])]
        return masked(Encoded(record, [form], stored), weight)

    return encode_weights(module, step, context, encoder)


def vector_size(shape: tuple[int, ...], wanted: int) -> int:
    """Return the weights per vector for a weight ``[rows, ..., *kernel]``: a divisor of those in a row.

    A kernel of a convolution is one vector if it has between half and twice as many weights as wanted.
    """
    row = 1
    for dim in shape[1:]:
        row *= dim
    kernel = 1
    for dim in shape[2:]:
        kernel *= dim
    if kernel > 1 and wanted <= 2 * kernel <= 4 * wanted:
        return kernel
    divisors = [size for size in range(1, min(row, 2 * wanted) + 1) if row % size == 0]
    return min(divisors, key=lambda size: (abs(size - wanted), -size))


def rebuild(module: "nn.Module", change: Mapping[str, Any]) -> "nn.Module":
    """Give the recorded weights codes and tables, which are loaded later."""
    return rebuild_weights(module, change, _forms)


def _forms(record: Mapping[str, Any], shape: tuple[int, ...]) -> "Sequence[StoredForm]":
    import math

    import torch

    from edgepack.torchnet.codebooks import SharedVectors

    table = record["entries"], record["size"]
    codes = torch.zeros(math.prod(shape) // record["size"])
    return [SharedVectors(codes, table, shape, zero=record["zero"], means=record["means"])]


METHOD = TorchMethod(
    spec=ProductQuantize,
    apply=apply,
    rebuild=rebuild,
    needs=needs,
    leaves=frozenset({"encoded"}),
    destroys={"fake-quantized": "the weights are integers already; cluster shares them"},
    distributions=("torch", "scikit-learn", "numpy"),
    sources=("compression/kmeans.py", "compression/product_quantize.py", *SOURCES),
)
