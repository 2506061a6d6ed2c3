"""One run from its plan to its trace: boards opened and closed, the pipeline executed, everything told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgepack.config.plan import Plan
from edgepack.config.recipe import Tune
from edgepack.engine.artifact import Artifact
from edgepack.engine.events import ErrorRecord, Listener, ignore
from edgepack.engine.runner import Runner
from edgepack.engine.store import Store
from edgepack.errors import EdgepackError
from edgepack.pipeline.begin import begin
from edgepack.pipeline.pipeline import Pipeline, require_stages
from edgepack.pipeline.state import Resources
from edgepack.pipeline.strategy import Strategy
from edgepack.pipeline.trace import RunEnded, RunInterrupted, Trace, Until
from edgepack.remote.boards import Boards


@dataclass(frozen=True)
class Executed:
    """A run that is over: what happened, what its last stage made, and its errors in the order they came."""

    trace: Trace
    artifacts: list[Artifact]
    errors: list[EdgepackError]


def execute(
    plan: Plan,
    until: Until,
    *,
    fresh: Sequence[str] = (),
    listener: Listener = ignore,
    budget: Tune | None = None,
    strategy: Strategy | None = None,
) -> Executed:
    """Do a plan's stages up to ``until`` and save the trace; Ctrl-C ends the run, and the trace says so.

    Args:
        plan: what to do.
        until: the last stage.
        fresh: names of stages to do anew; ``all`` for every one.
        listener: told every event besides the trace.
        budget: for tuning, instead of the recipe's.
        strategy: proposes the candidates; the recipe's two by default.

    Raises:
        UsageError: ``fresh`` names no stage of this plan.
    """
    require_stages(fresh, plan)
    trace = Trace()

    def tell(event: Any) -> None:
        trace(event)
        listener(event)

    runner: Runner[Resources] = Runner(plan.recipe.name, Store(), tell, fresh)
    artifacts: list[Artifact] = []
    with Boards(plan.devices) as boards:
        begun = begin(plan, boards, until)
        tell(begun)
        try:
            artifacts = Pipeline(plan, runner, boards, until=until, budget=budget).run(strategy)
        except KeyboardInterrupt:
            error = runner.interrupted()
            if error is not None:
                tell(RunInterrupted(error=ErrorRecord.of(error)))
    tell(RunEnded(seconds=runner.seconds))
    trace.save(begun.run_id)
    return Executed(trace, artifacts, runner.errors)
