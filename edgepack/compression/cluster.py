"""Weight sharing by k-means: each weight is one of a few values per layer (Han et al. 2016, arXiv:1510.00149)."""

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

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgepack.torchnet.encodable import StoredForm
    from edgepack.torchnet.learned_steps import QuantizedWeight


class Cluster(EncodingStep):
    """Let the weights of each layer share a few values, found by k-means and fine-tuned."""

    method: Literal["cluster"]
    clusters: int = Field(
        default=16,
        ge=2,
        le=1 << 16,
        description="Values per layer, the zero of pruned weights included: 2 take 1 bit per weight, 4 take 2, 16 take 4, 256 take 8.",
    )


def apply(module: "nn.Module", step: Cluster, context: Context) -> TorchResult:
    """Cluster the weights of a copy of ``module``; the gradient of a shared value is the sum of its weights' gradients.

    Of weights with learned quantizers, the integers are clustered; they keep their steps.

    Metrics: as :func:`edgepack.compression.encoding.encode_weights`.

    Raises:
        InputError: as ``encode_weights``.
    """

    def encoder(weight: "torch.Tensor", _: int) -> Encoded | str:
        record, codes, table = _clustered(weight, step)
        (form,) = forms = _build(record, tuple(weight.shape))
        form.codes.copy_(codes)
        return Encoded(record, forms, [table])

    def quantized(quantizer: "QuantizedWeight", original: "torch.Tensor") -> Encoded:
        from edgepack.torchnet.learned_steps import weight_levels

        record, codes, table = _clustered(quantizer.integers(original).float(), step)
        record |= {"axis": quantizer.axis, "levels": weight_levels(quantizer.bits)}
        (form,) = forms = _build(record, tuple(original.shape))
        form.codes.copy_(codes)
        form.log_step.data.copy_(quantizer.log_step.detach())
        return Encoded(record, forms, [table])

    return encode_weights(module, step, context, encoder, quantized)


def _clustered(weight: "torch.Tensor", step: Cluster) -> "tuple[dict[str, Any], torch.Tensor, torch.Tensor]":
    """Return the record of a weight's form, its codes and its table."""
    import torch

    from edgepack.compression.kmeans import cluster_scalars

    values = weight.flatten().numpy()
    kept = values != 0
    zero = bool(not kept.all() and kept.any())  # pruned weights stay zero: code 0
    centres, found = cluster_scalars(values[kept] if zero else values, step.clusters - zero, step.seed)
    codes = torch.zeros(len(values), dtype=torch.int64)
    codes[torch.from_numpy(kept) if zero else slice(None)] = torch.from_numpy(found) + zero
    record = {"entries": len(centres) + zero, "zero": zero}
    return record, codes.reshape(weight.shape), torch.from_numpy(centres).to(weight)


def rebuild(module: "nn.Module", change: Mapping[str, Any]) -> "nn.Module":
    """Give the recorded weights codes and tables, which are loaded later."""
    return rebuild_weights(module, change, _build)


def _build(record: Mapping[str, Any], shape: tuple[int, ...]) -> "Sequence[StoredForm]":
    import torch

    from edgepack.torchnet.codebooks import SharedLevels, SharedValues

    entries, zero, codes = record["entries"], record["zero"], torch.zeros(shape)
    if "levels" in record:
        return [SharedLevels(codes, entries, zero=zero, axis=record["axis"], levels=record["levels"])]
    return [SharedValues(codes, entries, zero=zero)]


METHOD = TorchMethod(
    spec=Cluster,
    apply=apply,
    rebuild=rebuild,
    needs=needs,
    leaves=frozenset({"encoded"}),
    distributions=("torch", "scikit-learn", "numpy"),
    sources=("compression/cluster.py", "compression/kmeans.py", *SOURCES),
)
