"""Random weight sharing: a hash of its position decides which stored value a weight is (HashedNets).

Chen et al. 2015, arXiv:1504.04788. Nothing but the values is stored, and they are trained through the hash.
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

_FACTORS = 4  # of the hash: four positions are independent


class HashWeights(EncodingStep):
    """Let weights share values by a hash of their positions, and train these values."""

    method: Literal["hash-weights"]
    ratio: float = Field(
        default=0.125, gt=0, lt=1, description="Stored values per layer, as a share of its weights."
    )


def apply(module: "nn.Module", step: HashWeights, context: Context) -> TorchResult:
    """Hash the weights of a copy of ``module``.

    A stored value starts as the mean of its weights, with their signs; with ``fine_tune`` all of them are enlarged so that
    the layer's weights are as large as before, without they are the closest possible.

    Metrics: as :func:`edgepack.compression.encoding.encode_weights`.

    Raises:
        InputError: as ``encode_weights``.
    """

    def encoder(weight: "torch.Tensor", number: int) -> Encoded | str:
        import numpy as np

        from edgepack.torchnet.codebooks import PRIME

        entries = max(round(step.ratio * weight.numel()), 1)
        if 2 * entries > weight.numel():
            return "it is too small to share its values"
        random = np.random.default_rng([step.seed, number])
        record = {"entries": entries, "factors": [int(each) for each in random.integers(1, PRIME, _FACTORS)]}
        forms = _forms(record, tuple(weight.shape))
        table = forms[0].right_inverse(weight)
        if step.fine_tune is not None:
            size = forms[0](table).norm()
            table *= weight.norm() / size if size > 0 else 1
        return masked(Encoded(record, forms, [table]), weight)

    return encode_weights(module, step, context, encoder)


def rebuild(module: "nn.Module", change: Mapping[str, Any]) -> "nn.Module":
    """Give the recorded weights tables, which are loaded later."""
    return rebuild_weights(module, change, _forms)


def _forms(record: Mapping[str, Any], shape: tuple[int, ...]) -> "Sequence[StoredForm]":
    from edgepack.torchnet.codebooks import HashedValues

    return [HashedValues(record["entries"], shape, tuple(record["factors"]))]


METHOD = TorchMethod(
    spec=HashWeights,
    apply=apply,
    rebuild=rebuild,
    needs=needs,
    leaves=frozenset({"encoded"}),
    destroys={"fake-quantized": "the weights are integers already; cluster shares them"},
    distributions=("torch", "numpy"),
    sources=("compression/hash_weights.py", *SOURCES),
)
