"""What a compiled model computes in an inference: its kernels, their calls in order, and the ONNX nodes of each call."""

from typing import Literal, Self

from pydantic import Field, model_validator

from edgepack.spec.base import Count, Spec
from edgepack.spec.document import JsonDocument


class NodeRef(Spec):
    """A node of the ONNX file that was compiled."""

    name: str
    operator: str
    module: str | None = Field(
        default=None,
        description="The module whose parameters it reads, by their names; None if they tell none.",
    )


class KernelWork(Spec):
    """What a call of a kernel does; its shapes, and so all of this, are the same in every call."""

    name: str
    tuned: bool = Field(description="Scheduled from tuning records.")
    arithmetic: str | None = Field(
        default=None, description="Type of the numbers that it multiplies and adds."
    )
    macs: Count = Field(default=0, description="Multiply-accumulates.")
    read: Count = Field(
        description="Bytes of the tensors that it reads, weights included, each counted once."
    )
    written: Count = Field(description="Bytes of its results.")


class CalledKernel(Spec):
    """A call: the kernel's name, and the nodes that it computes; empty if they are not known."""

    kernel: str
    nodes: tuple[NodeRef, ...] = ()


class KernelList(JsonDocument):
    """The kernels of a compiled model and their calls."""

    noun = "list of kernels"
    hint = "rebuild the bundle with this edgepack"

    kind: Literal["kernels"] = "kernels"
    edgepack: Literal[1] = Field(default=1, description="Version of this document.")
    kernels: tuple[KernelWork, ...] = Field(description="Sorted by name.")
    calls: tuple[CalledKernel, ...] = Field(description="Of an inference, in order.")

    @model_validator(mode="after")
    def _known(self) -> Self:
        known = {kernel.name for kernel in self.kernels}
        unknown = sorted({call.kernel for call in self.calls} - known)
        if unknown:
            raise ValueError(f"a call of {unknown[0]!r}, which is not in the list")
        return self
