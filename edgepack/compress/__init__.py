"""Compression: one file a method, registered here by hand.

A method's file holds its ``Spec`` (torch-free: recipes are read without torch) and its ``apply``; see
edgepack/compress/method.py for the contract and docs/add-a-compression-method.md for how to add one.
"""

from typing import Annotated

from pydantic import Field

from edgepack.compress import prune_channels, quantize_static

METHODS = {
    "prune-channels": prune_channels,
    "quantize-static": quantize_static,
}

CompressStep = Annotated[
    prune_channels.PruneChannels | quantize_static.QuantizeStatic, Field(discriminator="method")
]
