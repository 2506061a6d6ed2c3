"""Execute a plan: open and close boards, run the pipeline, save the trace."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edgepack.config.plan import Plan
from edgepack.config.recipe import Tune
from edgepack.engine.artifact import Artifact
from edgepack.engine.events import ErrorRecord, Listener, ignore
from edgepack.engine.runner import Runner
from edgepack.engine.store import Store
from edgepack.errors import EdgepackError
from edgepack.pipeline.ask_boards import ask_boards
from edgepack.pipeline.begin import begin
from edgepack.pipeline.pipeline import Pipeline, require_stages
from edgepack.pipeline.state import Resources
from edgepack.pipeline.strategy import Strategy
from edgepack.pipeline.trace import RunEnded, RunInterrupted, Trace, Until
from edgepack.remote.boards import Boards


@dataclass(frozen=True)
class Executed:
    """The result of a run: its trace, the artifacts of its last stage, and its errors in order."""

    trace: Trace
    artifacts: list[Artifact]
    errors: list[EdgepackError]
    kept: list[Artifact] = field(default_factory=list)  # the best model so far, where a step missed a gate


def execute(
    plan: Plan,
    until: Until,
    *,
    fresh: Sequence[str] = (),
    listener: Listener = ignore,
    budget: Tune | None = None,
    strategy: Strategy | None = None,
    offline: bool = False,
) -> Executed:
    """Run a plan's stages up to ``until`` and save the trace; Ctrl-C ends the run and is recorded in the trace.

    Args:
        plan: the plan to execute.
        until: the last stage.
        fresh: names of stages to re-run even if they are cached; ``all`` re-runs everything.
        listener: called with every event.
        budget: tuning budget that overrides the recipe's.
        strategy: proposes the candidates; by default the baseline and the release of the recipe.
        offline: do not ask the boards first whether they can be reached.

    Raises:
        UnreachableError, TrustError: a board cannot be used; nothing was run.
        UsageError: ``fresh`` has a name that is not a stage of this plan.
    """
    require_stages(fresh, plan)
    trace = Trace()

    def send(event: Any) -> None:
        trace(event)
        listener(event)

    model = plan.recipe.model
    named = (str(plan.base / model.onnx) if model.onnx else model.source or "", str(plan.path))
    runner: Runner[Resources] = Runner(plan.recipe.name, Store(), send, fresh, named=named)
    artifacts: list[Artifact] = []
    kept: list[Artifact] = []
    with Boards(plan.devices) as boards:
        if not offline:
            ask_boards(plan, boards, until, budget, listener)
        begun = begin(plan, boards, until)
        send(begun)
        try:
            pipeline = Pipeline(plan, runner, boards, until=until, budget=budget)
            kept = pipeline.kept
            artifacts = pipeline.run(strategy)
        except KeyboardInterrupt:
            error = runner.add_interrupt()
            if error is not None:
                send(RunInterrupted(error=ErrorRecord.of(error)))
    send(RunEnded(seconds=runner.seconds))
    trace.save(begun.run_id)
    return Executed(trace, artifacts, runner.errors, kept)
