"""Encoded constants: how a weight is stored, and where and when it is decoded.

A constant keeps its encoding from the compression step that created it, through ONNX, to the compiled model and the
bundle, until it is decoded. docs/encodings.md describes how each encoding is written in ONNX and how to add one.
"""

from typing import Literal

from pydantic import Field

from edgepack.spec.base import Count, Spec

Decoded = Literal["build", "install", "load", "kernel"]
"""When a constant is decoded: on the build host, when a release is installed, when the model is loaded, or in registers
by the kernel that reads it, on each call."""

DENSE = "dense"
"""No encoding: the elements are stored as they are used."""


class EncodedConstant(Spec):
    """One constant of a model.

    ``stored_bytes`` is the size of the encoded form, scales and codebooks included; ``dense_bytes`` the size of the same
    constant without an encoding.
    """

    name: str = Field(description="The initializer that holds the encoded form.")
    shape: tuple[Count, ...]
    dtype: str = Field(description="The type of the decoded elements.")
    encoding: str = Field(description="The name of an encoding (docs/encodings.md), or dense.")
    stored_bytes: Count
    dense_bytes: Count


class ConstantSummary(Spec):
    """The constants of a compiled model that share an encoding and are decoded at the same time."""

    encoding: str
    decoded: Decoded
    count: Count
    stored_bytes: Count = Field(description="In the weights file, or in the compiled model if it has none.")
    raw_bytes: Count | None = Field(
        default=None,
        description="Of what is stored, before entropy coding; null if there is no weights file.",
    )
    resident_bytes: Count = Field(description="In memory while the model runs.")
