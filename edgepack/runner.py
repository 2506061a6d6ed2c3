"""Doing stages: from the store or by work, with outcomes, errors and progress kept for the report."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from edgepack.artifact import Artifact
from edgepack.boards import Boards
from edgepack.errors import EdgepackError, FleetError, GateError, Interrupted
from edgepack.events import Advanced, Listener, StageEnded, StageStarted
from edgepack.outcome import Outcome, Variant
from edgepack.plan import Plan
from edgepack.stage import Scope, Stage, Work, ingredients, key_of, why_changed
from edgepack.store import Record, Store


class Stopped(Exception):  # noqa: N818 - not an error: it ends one row after a failure already recorded
    """A stage of this row failed; the rest of the row is skipped."""


class Run:
    """One run of a plan: does stages, keeps their outcomes and figures for the report."""

    def __init__(
        self, plan: Plan, store: Store, boards: Boards, listener: Listener, fresh: Sequence[str] = ()
    ) -> None:
        self.plan = plan
        self.store = store
        self.boards = boards
        self.outcomes: list[Outcome] = []
        self.errors: list[EdgepackError] = []
        self._listener = listener
        self._fresh = set(fresh)
        self._began = time.monotonic()

    def do(
        self,
        stage: Stage,
        *,
        spec: Mapping[str, Any],
        inputs: Mapping[str, Artifact],
        target: str | None = None,
        variant: Variant | None = None,
        resources: Mapping[str, Any] | None = None,
        label: str | None = None,
        cached: bool = True,
    ) -> Record:
        """Answer from the store, or do the work and keep it.

        Args:
            stage: what to do.
            spec: JSON values; part of the key.
            inputs: artifacts by role; their digests are part of the key.
            target: for the report, and to remember what this stage last ran with.
            variant: likewise.
            resources: what the work needs and the result does not depend on.
            label: instead of the stage's name, where one stage stands several times in a run.
            cached: False for what must ask the outside world each time.

        Raises:
            Stopped: the stage failed; its outcome and error are recorded.
        """
        name = label or stage.name
        scope = Scope(self.plan.recipe.name, name, target, variant)
        began = time.monotonic()
        parts = ingredients(stage, spec, inputs)
        key = key_of(parts)
        forced = bool(self._fresh & {stage.name, "all"})
        found = self.store.find(key) if cached and not forced else None
        if found is not None:
            self.store.remember(str(scope), parts)
            self._end(name, target, variant, "cached", began, None, found)
            return found
        why = "asked for by --fresh" if forced else why_changed(self.store.last(str(scope)), parts)
        why = why if cached else "the board is asked each time"
        self._listener(StageStarted(name, target, variant, why))
        try:
            record = self._work(stage, spec, inputs, resources or {}, began)
        except KeyboardInterrupt:
            self._fail(name, target, variant, began, Interrupted("interrupted", where=_place(name, target)))
            raise
        except EdgepackError as error:
            if error.where is None:
                error.where = _place(name, target)
            self._fail(name, target, variant, began, error)
            raise Stopped from error
        if cached:
            self.store.save(key, record)
            self.store.remember(str(scope), parts)
        self._end(name, target, variant, "done", began, why, record)
        return record

    def skip(self, stage: Stage, why: str, *, target: str | None = None, variant: Variant | None = None) -> None:
        """Record that a stage was left out, and why."""
        self._record(Outcome(stage=stage.name, target=target, variant=variant, status="skipped", why=why))

    def advanced(self, text: str, share: float | None = None) -> None:
        """Tell the listener how far the stage at work is."""
        self._listener(Advanced(text, share))

    def exit_code(self, *, gates_failed: bool) -> int:
        """0, a failed gate's 3, the one error's own code, or 7 when some rows failed and others did not."""
        codes = {error.exit_code for error in self.errors}
        if Interrupted.exit_code in codes:
            return Interrupted.exit_code
        if not codes:
            return GateError.exit_code if gates_failed else 0
        failed = {o.target for o in self.outcomes if o.status == "failed"}
        if None not in failed and len(failed) < len(self.plan.rows):
            return FleetError.exit_code
        return codes.pop() if len(codes) == 1 else FleetError.exit_code

    def _work(
        self,
        stage: Stage,
        spec: Mapping[str, Any],
        inputs: Mapping[str, Artifact],
        resources: Mapping[str, Any],
        began: float,
    ) -> Record:
        with self.store.scratch() as scratch:
            paths = {role: self.store.path(artifact) for role, artifact in inputs.items()}
            made = stage.run(Work(spec, paths, scratch, {**resources, "advanced": self.advanced}))
            parents = tuple(artifact.sha256 for artifact in inputs.values())
            artifacts = {
                role: self.store.add(
                    output.path, kind=output.kind, name=output.name, made_by=stage.name, parents=parents
                )
                for role, output in made.files.items()
            }
        return Record(artifacts=artifacts, figures=dict(made.figures), seconds=time.monotonic() - began)

    def _end(
        self,
        stage: str,
        target: str | None,
        variant: Variant | None,
        status: Literal["done", "cached"],
        began: float,
        why: str | None,
        record: Record,
    ) -> None:
        self._record(
            Outcome(
                stage=stage,
                target=target,
                variant=variant,
                status=status,
                seconds=time.monotonic() - began,
                started=began - self._began,
                why=why,
                artifacts=tuple(record.artifacts.values()),
            )
        )

    def _fail(
        self, stage: str, target: str | None, variant: Variant | None, began: float, error: EdgepackError
    ) -> None:
        self.errors.append(error)
        self._record(
            Outcome(
                stage=stage,
                target=target,
                variant=variant,
                status="failed",
                seconds=time.monotonic() - began,
                started=began - self._began,
                why=error.message,
            )
        )

    def _record(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._listener(StageEnded(outcome))


def _place(stage: str, target: str | None) -> str:
    return f"stage {stage}, target {target}" if target else f"stage {stage}"
