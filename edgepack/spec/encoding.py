"""Encoded constants: how a weight is stored, and where and when it is decoded.

A constant keeps its encoding from the compression step that created it, through ONNX, to the compiled model and the
bundle, until it is decoded. docs/encodings.md describes how each encoding is written in ONNX and how to add one.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from edgepack.spec.base import Count, Spec

if TYPE_CHECKING:
    import numpy as np

Decoded = Literal["build", "install", "load", "kernel"]
"""When a constant is decoded: on the build host, when a release is installed, when the model is loaded, or in registers
by the kernel that reads it, on each call."""

DENSE = "dense"
"""No encoding: the elements are stored as they are used."""

WORTHWHILE = 256
"""Bytes that decoding a constant at load must save, about the size of the code that decodes it; others are stored decoded."""


@dataclass(frozen=True, eq=False)
class BundledWeight:
    """A weight of a model, and how a bundle will hold it.

    Attributes:
        name: of the initializer, or of the parameter.
        stored: what the weight is decoded from; the weight alone if it is not encoded.
        decoded: the weight.
    """

    name: str
    stored: "tuple[np.ndarray, ...]"
    decoded: "np.ndarray"

    @property
    def in_file(self) -> "tuple[np.ndarray, ...]":
        """What the weights file holds, before entropy coding."""
        size = sum(array.nbytes for array in self.stored)
        return self.stored if size + WORTHWHILE <= self.decoded.nbytes else (self.decoded,)


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
