"""Strategies: propose candidates, choose which of them are built, and receive their figures."""

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
    """The figures of a candidate. A figure is missing if it was not requested or its stage failed.

    Attributes:
        candidate: the candidate.
        steps: figures after each compression step, the source first.
        evaluated: figures in onnxruntime; None if a model stage failed.
        compiled: figures by target.
        measured: figures by target and device.
    """

    candidate: Candidate
    steps: tuple[ModelFigures, ...] = ()
    evaluated: EvaluateFigures | None = None
    compiled: Mapping[str, CompileFigures] = field(default_factory=dict)
    measured: Mapping[tuple[str, str], BenchFigures] = field(default_factory=dict)


class Strategy(Protocol):
    """Proposes candidates in rounds. Equal prefixes of steps are computed once, over all rounds."""

    def ask(self) -> Sequence[Candidate]:
        """The candidates of the next round, with unique names; an empty sequence ends the run."""

    def promote(self, trials: Sequence[Trial]) -> Sequence[str]:
        """The names of the candidates to build and measure, after the model stages of a round."""

    def tell(self, trial: Trial) -> None:
        """Receive the figures of a candidate, built or not."""


class RecipeStrategy:
    """The strategy of a recipe: the original model as baseline, if the recipe compresses, and the release."""

    def __init__(self, recipe: Recipe) -> None:
        why = None if recipe.bench.baseline else "bench.baseline is false in the recipe"
        self._round: tuple[Candidate, ...] = (Candidate(RELEASE, recipe.compress),)
        if recipe.compress:
            self._round = (Candidate(BASELINE, not_built=why), *self._round)

    def ask(self) -> Sequence[Candidate]:
        """The baseline and the release, in one round."""
        asked, self._round = self._round, ()
        return asked

    def promote(self, trials: Sequence[Trial]) -> Sequence[str]:
        """All candidates, or none if one of them failed: nothing is tuned then."""
        sound = all(trial.evaluated is not None for trial in trials)
        return [trial.candidate.name for trial in trials] if sound else []

    def tell(self, trial: Trial) -> None:
        """Ignore the figures."""


class CheckedStrategy:
    """A wrapper that turns failures and invalid results of a strategy into errors with its name."""

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self._names: set[str] = set()

    def ask(self) -> Sequence[Candidate]:
        """The strategy's candidates.

        Raises:
            StrategyError: it failed, or a name is used twice.
        """
        candidates = list(self._guarded("ask"))
        for candidate in candidates:
            if candidate.name in self._names:
                raise self._error(f"proposes a duplicate candidate {candidate.name!r}")
            self._names.add(candidate.name)
        return candidates

    def promote(self, trials: Sequence[Trial]) -> Sequence[str]:
        """The names that the strategy promotes.

        Raises:
            StrategyError: it failed, a name is not in this round, or its candidate failed.
        """
        promoted = list(self._guarded("promote", trials))
        evaluated = {trial.candidate.name: trial.evaluated for trial in trials}
        for name in promoted:
            if name not in evaluated:
                hint = suggestion(name, evaluated, otherwise=f"this round has {', '.join(evaluated)}")
                raise self._error(f"promotes {name!r}, which is not a candidate of this round", next=hint)
            if evaluated[name] is None:
                step = "promote those whose `evaluated` is not None"
                raise self._error(f"promotes {name!r}, for which a model stage failed", next=step)
        return promoted

    def tell(self, trial: Trial) -> None:
        """Pass the figures to the strategy.

        Raises:
            StrategyError: it failed.
        """
        self._guarded("tell", trial)

    def _guarded(self, method: str, *arguments: Any) -> Any:
        try:
            return getattr(self._strategy, method)(*arguments)
        except Exception as error:  # the caller's own code can raise anything
            raise self._error(
                f"failed in {method}()", where=spot(error), why=f"{type(error).__name__}: {error}"
            ) from error

    def _error(self, what: str, **more: str | None) -> StrategyError:
        return StrategyError(
            f"the strategy {type(self._strategy).__name__} {what}", state="completed stages are kept", **more
        )
