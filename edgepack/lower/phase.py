"""Building blocks of the lowering: phases, which state pre- and postconditions, and marks, which record facts."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgepack.config.target import Target
from edgepack.errors import EdgepackError
from edgepack.lower.costs import Macs
from edgepack.lower.result import Emitted
from edgepack.onnxfile.quantized import LinearScale
from edgepack.spec import Tensor
from edgepack.spec.encoding import ConstantSummary, EncodedConstant
from edgepack.spec.kernels import CalledKernel, KernelWork, NodeRef
from edgepack.weightfile.file import PackedWeights

Module = Any  # tvm.IRModule; TVM is imported only when something is lowered

Level = Literal["onnx", "graph", "kernels", "schedules", "emit"]

CHECK = "EDGEPACK_CHECK_PHASES"
"""Environment variable: if set to anything but 0, the conditions of every phase are checked."""


@dataclass(frozen=True)
class Origin:
    """How a constant was computed from others.

    Attributes:
        call: of a Relax operator or a kernel, with constants as arguments.
        kernel: the PrimFunc, if it is the call of a kernel.
    """

    call: Any
    kernel: Any = None


@dataclass
class Facts:
    """Facts collected during lowering, each recorded at a mark."""

    workloads: dict[str, str] = field(default_factory=dict)  # kernel -> structural hash
    tuned: set[str] = field(default_factory=set)  # kernels scheduled from tuning records
    calls: dict[str, int] = field(default_factory=dict)  # kernel -> calls per inference
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    encoded: dict[str, list[EncodedConstant]] = field(default_factory=dict)  # the file's, by content
    in_kernels: dict[str, EncodedConstant] = field(default_factory=dict)  # as passed to kernels
    origins: dict[str, Origin] = field(
        default_factory=dict
    )  # of what depends on encoded constants, by content
    weights: PackedWeights | None = None  # the weights file, if the model has constants
    constants: tuple[ConstantSummary, ...] = ()
    index_ranges: dict[str, tuple[int, int]] = field(default_factory=dict)  # of inputs that are indices
    scales: dict[str, LinearScale] = field(default_factory=dict)  # of quantized inputs and outputs
    packed: set[str] = field(default_factory=set)  # functions called by name at run time
    # Recorded by lower/tracing.py; variables are Relax's.
    nodes: dict[Any, tuple[NodeRef, ...] | None] = field(default_factory=dict)  # of the file, by variable
    macs: dict[str, Macs] = field(default_factory=dict)  # by kernel, as before it was scheduled
    kernel_of: dict[Any, str] = field(default_factory=dict)  # by variable, as before it was scheduled
    bound_nodes: list[tuple[NodeRef, ...]] = field(default_factory=list)  # of each binding of `main`
    works: dict[str, KernelWork] = field(default_factory=dict)  # by kernel, as it is compiled
    called: list[CalledKernel] = field(default_factory=list)  # in order


@dataclass(frozen=True)
class Lowering:
    """Context of the phases: model, target, records, and the facts recorded so far."""

    model: Path
    target: Target
    tvm_target: Any
    database: Any | None = None  # MetaSchedule database with this target's records
    static: str | None = None  # the name of the static library to build in place of a shared one
    embed: bool = False  # put the weights into the static library
    objects: Path | None = None  # where to write the model's object files, too
    facts: Facts = field(default_factory=Facts)


@dataclass(frozen=True)
class Condition:
    """A property of a module: ``violation`` describes where it does not hold, or returns None."""

    name: str
    violation: Callable[[Module], str | None]


@dataclass(frozen=True)
class Phase:
    """One step of the lowering.

    Attributes:
        name: used in dumps and errors.
        level: the group it belongs to.
        run: transforms the module.
        requires: conditions that must hold before it.
        ensures: conditions that hold after it.
    """

    name: str
    level: Level
    run: Callable[[Module, Lowering], Module]
    requires: tuple[Condition, ...] = ()
    ensures: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Mark:
    """A point between two phases at which facts are recorded."""

    name: str
    record: Callable[[Module, Lowering], None]


@dataclass(frozen=True)
class Executor:
    """What runs a compiled model on the board, and how to build for it.

    Attributes:
        name: as in manifests.
        phases: the last phases of the lowering.
        build: writes the compiled model to a path, and reports its steps.
        runtime: file names of the runtime libraries that the model needs.
        file: file name of the compiled model.
    """

    name: str
    phases: tuple[Phase | Mark, ...]
    build: Callable[[Module, Lowering, Path, Callable[[str], None]], Emitted]
    runtime: Callable[[Target, Facts], tuple[str, ...]]
    file: str


Passes = Callable[[], Sequence[Any]]
"""Creates TVM passes; a function, because TVM is imported only when something is lowered."""


def sequence(passes: Passes) -> Callable[[Module, Lowering], Module]:
    """Return a phase's ``run`` for passes that depend only on the module."""

    def run(mod: Module, _lowering: Lowering) -> Module:
        import tvm

        return tvm.transform.Sequential(list(passes()))(mod)

    return run


def content_of(array: Any) -> str:
    """Return the sha256 of a NumPy array's type, shape and elements."""
    import numpy as np

    head = f"{array.dtype}{list(array.shape)}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def checking() -> bool:
    """Whether conditions are checked."""
    return os.environ.get(CHECK, "0") not in {"", "0"}


def verify(conditions: Sequence[Condition], mod: Module, *, when: str, phase: Phase) -> None:
    """Check conditions on a module.

    Raises:
        EdgepackError: A condition does not hold: a bug in the phase, or in an earlier one.
    """
    for condition in conditions:
        violation = condition.violation(mod)
        if violation is not None:
            raise EdgepackError(
                f"{condition.name} does not hold {when} lowering phase {phase.name}",
                why=violation,
                next="report this",
            )
