"""Candidates: a name and a list of compression steps; a run builds, measures and compares them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgepack.compression import Method, OnnxMethod, Step, TorchMethod
from edgepack.compression.ordering import levels_of, misplaced, step_labels
from edgepack.compression.registry import METHODS
from edgepack.spec.candidate import RELEASE


@dataclass(frozen=True)
class Candidate:
    """A possible release: a name and compression steps.

    Attributes:
        name: unique in a run; ``release`` is the one that is deployed.
        steps: compression steps for the recipe's model, those on torch before those on ONNX.
        not_built: why it is not built for any target; None if it is.
    """

    name: str
    steps: tuple[Step, ...] = ()
    not_built: str | None = None

    def __post_init__(self) -> None:
        """Check the order of the steps: the export separates the two levels."""
        levels = levels_of(self.steps, METHODS)
        if list(levels) != sorted(levels, key=("torch", "onnx").index):
            raise ValueError(f"candidate {self.name}: steps on torch must come before steps on ONNX")
        for _, message in misplaced(self.steps, METHODS):
            raise ValueError(f"candidate {self.name}: {message}")

    @property
    def deployed(self) -> bool:
        """Whether it is installed on the boards; other candidates are measured from a scratch folder."""
        return self.name == RELEASE

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each step: its method's, numbered from 1 if a method occurs more than once."""
        return step_labels(self.steps)


def placed_methods(steps: Sequence[Step], *, torch: bool) -> tuple[TorchMethod[Any] | OnnxMethod[Any], ...]:
    """The method of each step, for the level at which it runs; ``torch`` says what the model is at first."""
    levels = levels_of(steps, METHODS, torch=torch)
    return tuple(method_of(step).on(level) for step, level in zip(steps, levels, strict=True))


def method_of(step: Step) -> Method[Any]:
    """The method of a step."""
    return METHODS[step.method]
