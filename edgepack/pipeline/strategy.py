"""Who proposes candidates: an object that is asked for some, chooses which of them are built, and is told their figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgepack.base.text import suggestion
from edgepack.config.recipe import Recipe
from edgepack.data.user_code import spot
from edgepack.errors import StrategyError
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


class CheckedStrategy:
    """A strategy whose failures and impossible answers are errors that name the strategy and the candidate."""

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self._names: set[str] = set()

    def ask(self) -> Sequence[Candidate]:
        """The strategy's candidates.

        Raises:
            StrategyError: it failed, or a name stands for a second candidate.
        """
        candidates = list(self._guarded("ask"))
        for candidate in candidates:
            if candidate.name in self._names:
                raise self._error(f"proposes the name {candidate.name!r} a second time")
            self._names.add(candidate.name)
        return candidates

    def promote(self, trials: Sequence[Trial]) -> Sequence[str]:
        """The names that the strategy promotes.

        Raises:
            StrategyError: it failed, a name is none of this round's, or its candidate failed.
        """
        promoted = list(self._guarded("promote", trials))
        evaluated = {trial.candidate.name: trial.evaluated for trial in trials}
        for name in promoted:
            if name not in evaluated:
                hint = suggestion(name, evaluated, otherwise=f"this round has {', '.join(evaluated)}")
                raise self._error(f"promotes {name!r}, which is no candidate of this round", next=hint)
            if evaluated[name] is None:
                step = "promote those whose `evaluated` is not None"
                raise self._error(f"promotes {name!r}, of which a model stage failed", next=step)
        return promoted

    def tell(self, trial: Trial) -> None:
        """Tell the strategy.

        Raises:
            StrategyError: it failed.
        """
        self._guarded("tell", trial)

    def _guarded(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._strategy, method)(*arguments)
        except Exception as error:  # the caller's own code fails in its own ways
            raise self._error(
                f"failed in {method}()", where=spot(error), why=f"{type(error).__name__}: {error}"
            ) from error

    def _error(self, what: str, **more: str | None) -> StrategyError:
        return StrategyError(
            f"the strategy {type(self._strategy).__name__} {what}", state="completed stages are kept", **more
        )
