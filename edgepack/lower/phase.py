"""The lowering's building blocks: phases that state what holds before and after them, and marks that record facts."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgepack.config.target import Target
from edgepack.errors import EdgepackError
from edgepack.spec import Tensor
from edgepack.spec.encoding import ConstantSummary, EncodedConstant

Module = Any  # tvm.IRModule; TVM is imported only when something is lowered

Level = Literal["onnx", "graph", "kernels", "schedules", "emit"]

CHECK = "EDGEPACK_CHECK_PHASES"
"""Environment variable: set to anything but 0, every phase's conditions are checked while it runs."""


@dataclass
class Facts:
    """What is learned on the way; each fact is recorded at a mark."""

    workloads: dict[str, str] = field(default_factory=dict)  # kernel -> structural hash
    tuned: set[str] = field(default_factory=set)  # kernels that records scheduled
    calls: dict[str, int] = field(default_factory=dict)  # kernel -> calls of one inference
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    encoded: dict[str, list[EncodedConstant]] = field(default_factory=dict)  # the file's, by content
    in_kernels: dict[str, EncodedConstant] = field(default_factory=dict)  # as handed to kernels
    constants: tuple[ConstantSummary, ...] = ()
    packed: set[str] = field(default_factory=set)  # functions that are called by name at run time


@dataclass(frozen=True)
class Lowering:
    """What the phases know besides the module: the model, for what, with which records; and the facts so far."""

    model: Path
    target: Target
    tvm_target: Any
    database: Any | None = None  # MetaSchedule database with this target's records
    facts: Facts = field(default_factory=Facts)


@dataclass(frozen=True)
class Condition:
    """Something that holds for a module: ``violation`` says where it does not, or None."""

    name: str
    violation: Callable[[Module], str | None]


@dataclass(frozen=True)
class Phase:
    """One step of the lowering.

    Attributes:
        name: for dumps and errors.
        level: the group it belongs to.
        run: from module to module.
        requires: what must hold before it.
        ensures: what holds after it.
    """

    name: str
    level: Level
    run: Callable[[Module, Lowering], Module]
    requires: tuple[Condition, ...] = ()
    ensures: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Mark:
    """A place between two phases where facts are recorded."""

    name: str
    record: Callable[[Module, Lowering], None]


@dataclass(frozen=True)
class Executor:
    """What runs a compiled model on the board, and how it is built for that.

    Attributes:
        name: as manifests have it.
        phases: the last of the lowering.
        build: writes the compiled model to a path; told of its steps.
        runtime: file names of the libraries that the model needs beside it.
        file: name of the compiled model's file.
    """

    name: str
    phases: tuple[Phase | Mark, ...]
    build: Callable[[Module, Lowering, Path, Callable[[str], None]], None]
    runtime: Callable[[Target, Facts], tuple[str, ...]]
    file: str


Passes = Callable[[], Sequence[Any]]
"""Makes TVM passes; a function, because TVM is imported only when something is lowered."""


def sequence(passes: Passes) -> Callable[[Module, Lowering], Module]:
    """Passes that need to know nothing but the module, as a phase's ``run``."""

    def run(mod: Module, _lowering: Lowering) -> Module:
        import tvm

        return tvm.transform.Sequential(list(passes()))(mod)

    return run


def content_of(array: Any) -> str:
    """What a NumPy array holds, as the sha256 over its type, shape and elements."""
    import numpy as np

    head = f"{array.dtype}{list(array.shape)}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def checking() -> bool:
    """Whether conditions are checked while phases run."""
    return os.environ.get(CHECK, "0") not in {"", "0"}


def verify(conditions: Sequence[Condition], mod: Module, *, when: str, phase: Phase) -> None:
    """Hold a module against conditions.

    Raises:
        EdgepackError: one does not hold: a defect of the phase, or of one before it.
    """
    for condition in conditions:
        found = condition.violation(mod)
        if found is not None:
            raise EdgepackError(
                f"{condition.name} does not hold {when} lowering phase {phase.name}",
                why=found,
                next="report this",
            )
