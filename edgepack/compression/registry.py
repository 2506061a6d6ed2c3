"""All compression methods by name: built-in methods, listed here, and those of installed packages."""

from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field

from edgepack.compression import (
    bf16,
    binarize,
    cluster,
    distill,
    fold,
    fp16,
    hash_weights,
    low_rank,
    product_quantize,
    prune_blocks,
    prune_channels,
    prune_layers,
    prune_weights,
    pulse_quantize,
    quantize_dynamic,
    quantize_static,
    quantize_weights,
    train_quantized,
)
from edgepack.compression.entry_points import Registry, with_entry_points
from edgepack.compression.method import Method, Step

BUILT_IN: dict[str, Method[Any]] = {
    "bf16": bf16.METHOD,
    "binarize": binarize.METHOD,
    "cluster": cluster.METHOD,
    "distill": distill.METHOD,
    "fold": fold.METHOD,
    "fp16": fp16.METHOD,
    "hash-weights": hash_weights.METHOD,
    "low-rank": low_rank.METHOD,
    "product-quantize": product_quantize.METHOD,
    "prune-blocks": prune_blocks.METHOD,
    "prune-channels": prune_channels.METHOD,
    "prune-layers": prune_layers.METHOD,
    "prune-weights": prune_weights.METHOD,
    "pulse-quantize": pulse_quantize.METHOD,
    "quantize-dynamic": quantize_dynamic.METHOD,
    "quantize-static": quantize_static.METHOD,
    "quantize-weights": quantize_weights.METHOD,
    "train-quantized": train_quantized.METHOD,
}

REGISTRY: Registry = with_entry_points(BUILT_IN)
METHODS = REGISTRY.methods

if TYPE_CHECKING:
    CompressStep = Step
else:
    CompressStep = Annotated[
        Union[tuple(method.spec for method in METHODS.values())],  # noqa: UP007 - made of what is registered
        Field(discriminator="method"),
    ]
"""A step of a recipe: the spec of one of the methods, discriminated by ``method``."""
