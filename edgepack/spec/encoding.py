"""Encoded constants: how a weight is stored, and where and when it becomes the numbers a kernel computes with.

A constant keeps its encoding from the compression step that made it, through ONNX, to the compiled model and the
bundle, until the moment it is decoded. docs/encodings.md says how each is written in ONNX and how to add one.
"""

from typing import Literal

from pydantic import Field

from edgepack.spec.base import Count, Spec

Decoded = Literal["build", "install", "load", "kernel"]
"""When the stored form becomes the computed one: on the build host, when a release is installed, when the model is
loaded, or inside the kernel that reads it, in registers, each time."""

DENSE = "dense"
"""The encoding that is none: the elements as they are computed with."""


class EncodedConstant(Spec):
    """One constant of a model.

    ``stored_bytes`` are those of the encoded form with what decodes it (scales, codebooks); ``dense_bytes`` those of
    the same constant without an encoding.
    """

    name: str = Field(description="Of the initializer that holds the encoded form.")
    shape: tuple[Count, ...]
    dtype: str = Field(description="Of the decoded elements.")
    encoding: str = Field(description="A name of edgepack.onnxfile.encodings.ENCODINGS, or dense.")
    stored_bytes: Count
    dense_bytes: Count


class ConstantSummary(Spec):
    """The constants of a compiled model that are encoded and decoded in the same way."""

    encoding: str
    decoded: Decoded
    count: Count
    stored_bytes: Count = Field(description="In the compiled model.")
    resident_bytes: Count = Field(description="In memory while the model runs.")
