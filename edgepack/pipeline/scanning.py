"""Scan the sensitivity of a recipe's original model; the result is cached like that of a stage."""

from collections.abc import Sequence
from typing import Any

from edgepack.config.plan import Plan
from edgepack.engine.events import Listener, ignore
from edgepack.engine.runner import Runner, StageFailed
from edgepack.engine.store import Store
from edgepack.pipeline import fingerprint
from edgepack.pipeline.candidates import Candidate
from edgepack.pipeline.stages.load import LoadStage
from edgepack.pipeline.stages.sensitivity import SensitivityFigures, SensitivityStage
from edgepack.pipeline.stages.train import TrainStage
from edgepack.pipeline.state import CandidateRun, Resources
from edgepack.remote.boards import Boards
from edgepack.spec.candidate import BASELINE
from edgepack.spec.sensitivity import ProbeKind


def scan_plan(
    plan: Plan,
    count: int,
    probes: tuple[ProbeKind, ...],
    *,
    fresh: Sequence[str] = (),
    listener: Listener = ignore,
) -> SensitivityFigures:
    """Train or load a recipe's model, and scan its layers.

    Args:
        plan: the recipe.
        count: samples of the training split, or of the recipe's samples.
        probes: what is tried on each layer.
        fresh: stages to re-run even if they are cached.
        listener: called with the events.

    Raises:
        EdgepackError: a stage failed.
        KeyboardInterrupt: Ctrl-C.
    """
    model, recipe = plan.recipe.model, plan.recipe
    named = (str(plan.base / model.onnx) if model.onnx else model.source or "", str(plan.path))
    runner: Runner[Resources] = Runner(recipe.name, Store(), listener, fresh, named=named)
    at = CandidateRun(plan, Candidate(BASELINE), fingerprint.user_files(recipe, plan.base))
    scanning = SensitivityStage(count, probes)
    stages: tuple[Any, ...] = (TrainStage(), LoadStage(), scanning)
    with Boards(None) as boards:
        resources = Resources(plan.base, boards, trust=plan.trust)
        try:
            for stage in stages:
                for ask in stage.requests(at):
                    request = ask()
                    if request is not None:
                        at.take(stage, request, runner.do(stage, request, at.scope(stage), resources))
        except StageFailed as failed:
            raise failed.error from failed
    return at.of(scanning).figures
