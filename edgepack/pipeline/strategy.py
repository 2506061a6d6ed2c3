"""Who proposes candidates: an object that is asked for some, chooses which of them are built, and is told their figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edgepack.config.recipe import Recipe
from edgepack.pipeline.candidates import Candidate
from edgepack.pipeline.figures import CompileFigures, EvaluateFigures
from edgepack.pipeline.stages.bench import BenchFigures
from edgepack.spec import ModelFigures
from edgepack.spec.candidate import BASELINE, RELEASE


@dataclass(frozen=True)
class Trial:
    """What is known of a candidate. A figure that is missing was not asked for, or its stage failed.

    Attributes:
        candidate: which one.
        steps: the model after each compression step, the source first.
        evaluated: the model in onnxruntime; None where a model stage failed.
        compiled: by target.
        measured: by target and device.
    """

    candidate: Candidate
    steps: tuple[ModelFigures, ...] = ()
    evaluated: EvaluateFigures | None = None
    compiled: Mapping[str, CompileFigures] = field(default_factory=dict)
    measured: Mapping[tuple[str, str], BenchFigures] = field(default_factory=dict)


class Strategy(Protocol):
    """Proposes candidates in rounds. Equal prefixes of steps are computed once, over all rounds."""

    def ask(self) -> Sequence[Candidate]:
        """The candidates of the next round, each with a name of its own; none ends the run."""

    def promote(self, trials: Sequence[Trial]) -> Sequence[str]:
        """The names of those to build and measure, when the model stages of a round are done."""

    def tell(self, trial: Trial) -> None:
        """What became of a candidate, built or not."""


class RecipeStrategy:
    """What a recipe says: the model as it came, where there is something to compare, and the release."""

    def __init__(self, recipe: Recipe) -> None:
        why = None if recipe.bench.baseline else "the recipe's bench.baseline is false"
        self._round: tuple[Candidate, ...] = (Candidate(RELEASE, recipe.compress),)
        if recipe.compress:
            self._round = (Candidate(BASELINE, not_built=why), *self._round)

    def ask(self) -> Sequence[Candidate]:
        """Both, once."""
        asked, self._round = self._round, ()
        return asked

    def promote(self, trials: Sequence[Trial]) -> Sequence[str]:
        """All or none: nothing is tuned for a release that does not exist, nor beside a baseline that does not."""
        sound = all(trial.evaluated is not None for trial in trials)
        return [trial.candidate.name for trial in trials] if sound else []

    def tell(self, trial: Trial) -> None:
        """Nothing follows from it."""
