"""A candidate: a name and a list of compression steps. What a run builds, measures and compares."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgepack.compression import Method, Step
from edgepack.compression.registry import METHODS
from edgepack.spec.candidate import RELEASE


@dataclass(frozen=True)
class Candidate:
    """One proposal of what to release.

    Attributes:
        name: unique in a run; ``release`` is the one that is deployed.
        steps: what compresses the recipe's model, those on torch before those on ONNX.
        not_built: why nothing is built of it for a target, where that is so.
    """

    name: str
    steps: tuple[Step, ...] = ()
    not_built: str | None = None

    def __post_init__(self) -> None:
        """Refuse an order of steps that cannot be: the export stands between the two levels."""
        levels = [method_of(step).level for step in self.steps]
        if levels != sorted(levels, key=("torch", "onnx").index):
            raise ValueError(f"candidate {self.name}: steps on torch come before steps on ONNX")

    @property
    def deployed(self) -> bool:
        """Whether it is installed on the boards; the others are measured from a scratch folder."""
        return self.name == RELEASE

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each step: its method's, numbered from 1 where a method stands more than once."""
        return step_labels(self.steps)


def step_labels(steps: Sequence[Step]) -> tuple[str, ...]:
    """A name for each step: its method's, numbered from 1 where a method stands more than once."""
    several = {name for name, count in Counter(step.method for step in steps).items() if count > 1}
    seen: Counter[str] = Counter()
    labels = []
    for step in steps:
        seen[step.method] += 1
        labels.append(f"{step.method}-{seen[step.method]}" if step.method in several else step.method)
    return tuple(labels)


def method_of(step: Step) -> Method[Any]:
    """The method a step asks for."""
    return METHODS[step.method]
