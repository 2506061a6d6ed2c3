"""The stage contract: the result of a stage depends on its ingredients only.

A stage has a typed spec and typed figures, and lists the tools and source files that affect its result for a spec
(:class:`Ingredients`). Its ``run`` method gets the spec, the input files, and ``resources`` (access to boards, the
recipe's folder), which must not affect the result. ``edgepack.engine.keys`` computes the cache key. See docs/architecture.md, "The stage contract".
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Generic, TypeVar

from edgepack.base.progress import Progress
from edgepack.engine.artifact import Artifact
from edgepack.spec import Spec

S = TypeVar("S", bound=Spec)  # the spec of a stage
F = TypeVar("F", bound=Spec)  # the figures of its result
R = TypeVar("R")  # resources that must not affect the result


@dataclass(frozen=True)
class Ingredients:
    """What affects a stage's result besides its spec and inputs.

    Attributes:
        tools: distributions whose versions may affect the result.
        sources: files and folders of edgepack, relative to the package; absolute paths for code of other packages.
        identities: versions of tools that are not distributions, e.g. a CUDA toolkit, by name.
    """

    tools: tuple[str, ...] = ()
    sources: tuple[str | Path, ...] = ()
    identities: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request(Generic[S]):
    """One piece of work for a stage.

    Attributes:
        spec: part of the key.
        inputs: artifacts by role; their digests are part of the key.
        label: shown instead of the stage's name, if the stage occurs several times in a run.
        aliases: further names for ``--fresh``.
    """

    spec: S
    inputs: Mapping[str, Artifact]
    label: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skip:
    """A stage is skipped, and why."""

    why: str


@dataclass(frozen=True)
class Work(Generic[S, R]):
    """The input of a stage's ``run``."""

    spec: S
    inputs: Mapping[str, Path]
    scratch: Path
    resources: R
    progress: Progress
    unfinished: Path | None = None
    """A folder that is kept if the process is killed, for the next run with the same key; None if another process has it."""


@dataclass(frozen=True)
class Output:
    """An output file of a stage; its kind and name are for display."""

    path: Path
    kind: str
    name: str


@dataclass(frozen=True)
class StageResult(Generic[F]):
    """The result of a stage: its figures, and its files by role."""

    figures: F
    files: Mapping[str, Output] = field(default_factory=dict)
    keep: bool = True  # False if the result is incomplete and must not be reused


class Stage(ABC, Generic[S, F, R]):
    """One step of a run.

    Attributes:
        name: the name in reports.
        figures: the type of the figures that ``run`` returns.
        version: incremented when the meaning of the result changes but the code's digest does not.
        cached: False if the stage depends on state outside the build host.
        derived: ingredients that follow from others, e.g. ``spec.contents.accuracy`` from an input model. They are given
            as the reason for a re-run only if nothing else changed.
        names: display names of ingredients in such reasons, by path prefix.
    """

    name: str
    figures: type[F]
    version: int = 1
    cached: bool = True
    derived: tuple[str, ...] = ()
    names: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def ingredients(self, spec: S) -> Ingredients:
        """What else affects the result for this spec."""

    @abstractmethod
    def run(self, work: Work[S, R]) -> StageResult[F]:
        """Run the stage."""
