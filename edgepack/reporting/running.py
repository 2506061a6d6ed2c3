"""Run a plan: its stages, its report, and the bundles beside the report or in a folder of the user's."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from edgepack.base.files import require_writable, write_atomic
from edgepack.config.plan import Plan
from edgepack.config.recipe import Tune
from edgepack.engine.artifact import Artifact
from edgepack.engine.events import Listener, ignore
from edgepack.engine.store import Store
from edgepack.errors import EdgepackError, UsageError
from edgepack.pipeline.strategy import Strategy
from edgepack.pipeline.trace import Until
from edgepack.reporting.document import Report
from edgepack.reporting.saved import folder_of, save
from edgepack.spec.candidate import RELEASE

SUFFIX = ".edgepack"


def run_plan(
    plan: Plan,
    until: Until,
    *,
    out: Path | None = None,
    fresh: Sequence[str] = (),
    listener: Listener = ignore,
    budget: Tune | None = None,
    strategy: Strategy | None = None,
    offline: bool = False,
) -> tuple[Report, list[Artifact], list[EdgepackError]]:
    """Run a plan's stages up to ``until`` and save the report; returns it, the last stage's artifacts, and the errors.

    Bundles, with the sources of their CUDA kernels, are written to ``out``, by default to the run's folder.

    Raises:
        UsageError: ``out`` cannot be written to (nothing was run), or ``fresh`` has an unknown stage.
        UnreachableError, TrustError: a board cannot be used, unless ``offline``; nothing was run.
    """
    from edgepack.pipeline.execute import execute
    from edgepack.reporting.fold import fold

    if out is not None:
        require_writable(out)
    done = execute(
        plan, until, fresh=fresh, listener=listener, budget=budget, strategy=strategy, offline=offline
    )
    report = fold(done.trace.events)
    save(report)
    _keep(done.kept, folder_of(report), link=True)
    if until in {"package", "bench"}:
        _keep(done.artifacts, folder_of(report) if out is None else out, link=out is None)
    return report, done.artifacts, done.errors


def tune_plan(
    make_plan: Callable[[], Plan],
    *,
    trials: int | None = None,
    minutes: float | None = None,
    listener: Listener = ignore,
) -> Report:
    """As :func:`edgepack.api.tune`; ``make_plan`` reads the recipe.

    Raises:
        UsageError: a budget is not greater than 0, there is no budget, or no target has a device.
    """
    for name, value in (("trials", trials), ("minutes", minutes)):
        if value is not None and value <= 0:
            raise UsageError(
                f"{name} must be greater than 0 (got {value})", next="omit it to use the recipe's budget"
            )
    given = trials is not None or minutes is not None
    plan = make_plan()
    where = str(plan.path)
    if not given and not any(target.tune.trials or target.tune.minutes for target in plan.targets):
        raise UsageError("the recipe has no tuning budget", where=where, next="set --trials/--minutes")
    if not any(target.devices for target in plan.targets):
        raise UsageError(
            "no target in the recipe has a device to measure on",
            where=where,
            next="add a device to one of the recipe's targets; see docs/add-a-device.md",
        )
    budget = Tune(trials=trials or 0, minutes=minutes) if given else None
    return run_plan(plan, "tune", fresh=("tune",), listener=listener, budget=budget)[0]


def release_model(plan: Plan, listener: Listener = ignore) -> Path:
    """Compress a recipe's model and return the path of the release's .onnx file.

    Raises:
        EdgepackError: the first error of the run.
    """
    _, artifacts, errors = run_plan(plan, "evaluate", listener=listener)
    if errors:
        raise errors[0]
    return Store().path(artifacts[0])


def bundles(report: Report, out: Path | None = None) -> list[Path]:
    """The bundles of a run's release that are in ``out``, by default in the run's folder."""
    folder = folder_of(report) if out is None else out
    made = (
        artifact.name
        for outcome in report.stages
        if outcome.candidate == RELEASE
        for artifact in outcome.artifacts
        if artifact.kind == "bundle"
    )
    return [path for name in dict.fromkeys(made) if (path := folder / name).is_file()]


def _keep(artifacts: Sequence[Artifact], folder: Path, *, link: bool) -> None:
    """Put artifacts into a folder: as a link to the same bytes if possible, else as a copy."""
    for artifact in artifacts:
        stored, path = Store().path(artifact), folder / artifact.name
        if link:
            try:
                os.link(stored, path)
            except OSError:  # another file system, or one without links
                pass
            else:
                continue
        write_atomic(path, stored.read_bytes())
