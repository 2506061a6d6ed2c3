"""Whether the steps of a recipe make sense for its targets."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.compression.registry import METHODS
from edgepack.config.problems import DataProblem
from edgepack.config.recipe import Recipe
from edgepack.config.target import Target


@dataclass(frozen=True)
class TargetFit:
    """Steps that make no sense for a target, and what others do for which targets."""

    problems: tuple[DataProblem, ...]
    notes: tuple[str, ...]


def fit_targets(recipe: Recipe, targets: Sequence[Target]) -> TargetFit:
    """Ask the method of each step."""
    float16 = {target.name: target.computes_in("float16") for target in targets}
    problems: list[DataProblem] = []
    notes: list[str] = []
    for index, step in enumerate(recipe.compress):
        fit = METHODS[step.method].fit(step, float16)
        problems += [
            DataProblem(("compress", index, option), message, depends=(("targets",),))
            for option, message in fit.problems
        ]
        notes += fit.notes
    return TargetFit(tuple(problems), tuple(notes))
