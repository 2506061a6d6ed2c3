"""The stage contract: a step of a run whose result depends on nothing but its ingredients.

A stage has a typed spec, typed figures, and says which tools and source files shape its result for a spec
(:class:`Ingredients`). The function that does the work sees the spec, the input files, and ``resources`` (a way to
reach a board, the recipe's folder), which must not change the result. The cache key over all of it is made in
``edgepack.engine.keys``. See docs/architecture.md, "The stage contract".
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

S = TypeVar("S", bound=Spec)  # what is asked of a stage
F = TypeVar("F", bound=Spec)  # the figures it finds
R = TypeVar("R")  # what its work may use, and its result does not depend on


@dataclass(frozen=True)
class Ingredients:
    """What shapes a stage's result besides its spec and inputs.

    Attributes:
        tools: distributions, by whose versions the result may differ.
        sources: files and folders of edgepack, relative to the package; absolute ones for code from elsewhere.
        identities: tools that are no distributions, e.g. a CUDA toolkit, by name with what tells their versions apart.
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
        label: instead of the stage's name, where one stage stands several times in a run.
        aliases: further names that ``--fresh`` knows it by.
    """

    spec: S
    inputs: Mapping[str, Artifact]
    label: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skip:
    """No work for a stage, and why."""

    why: str


@dataclass(frozen=True)
class Work(Generic[S, R]):
    """What a stage's ``run`` may look at."""

    spec: S
    inputs: Mapping[str, Path]
    scratch: Path
    resources: R
    progress: Progress


@dataclass(frozen=True)
class Output:
    """A file a stage made: its kind and name are for people."""

    path: Path
    kind: str
    name: str


@dataclass(frozen=True)
class StageResult(Generic[F]):
    """All that a stage made: its figures, and files by the role they play for later stages."""

    figures: F
    files: Mapping[str, Output] = field(default_factory=dict)
    keep: bool = True  # False: it is less than its spec promises, and must not answer for it another time


class Stage(ABC, Generic[S, F, R]):
    """One step of a run.

    Attributes:
        name: as it stands in reports.
        figures: the type of what ``run`` finds.
        version: raised when the meaning of the result changes although the code's digest would not tell.
        cached: False for what must ask the outside world each time.
        derived: ingredients that follow from others, e.g. ``spec.contents.accuracy`` from a model among the inputs. A
            change there is given as the reason for working again only where nothing else changed.
        names: what ingredients are called in such a reason, by the beginning of their path.
    """

    name: str
    figures: type[F]
    version: int = 1
    cached: bool = True
    derived: tuple[str, ...] = ()
    names: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def ingredients(self, spec: S) -> Ingredients:
        """What else shapes the result for this spec."""

    @abstractmethod
    def run(self, work: Work[S, R]) -> StageResult[F]:
        """Do the work."""
