"""The result of a lowering."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from edgepack.spec import Count, Spec, Tensor
from edgepack.spec.encoding import ConstantSummary
from edgepack.spec.kernels import KernelList
from edgepack.spec.memory import MemoryPlan


class Kernel(Spec):
    """A kernel of the compiled model."""

    name: str
    workload: str = Field(description="Structural hash, by which tuning records are looked up.")
    tuned: bool = Field(
        description="Scheduled from tuning records; otherwise by its family's fallback schedule."
    )
    calls: Count = Field(description="Calls per inference.")


class CudaModule(NamedTuple):
    """A CUDA source that TVM generated, and the cubin in the compiled model that was made from it."""

    source: str
    cubin: bytes


@dataclass(frozen=True)
class Emitted:
    """What an executor has built: its CUDA modules, and the plan of its memory if that is fixed."""

    sources: tuple[CudaModule, ...] = ()
    memory: MemoryPlan | None = None


@dataclass(frozen=True)
class Compiled:
    """The result of ``compile_model``."""

    path: Path
    kernels: tuple[Kernel, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    constants: tuple[ConstantSummary, ...]  # by encoding, and when they are decoded
    calls: KernelList  # in the order of an inference, with the nodes that they compute
    executor: str  # what runs it on the board
    runtime: tuple[str, ...]  # file names of the runtime libraries it needs on the board
    requires: tuple[str, ...]  # requirements on the board, as text
    seconds: float
    sources: tuple[CudaModule, ...] = ()  # of its CUDA kernels
    warnings: tuple[str, ...] = ()
    weights: Path | None = None  # the file beside the library; None if the model has no constants
    objects: Path | None = None  # the archive that the agent is linked with
    memory: MemoryPlan | None = None  # if the model has its own runtime
    executor_reason: str | None = None  # why its executor is not one that is preferred
