"""Doing stages: from the store or by work, with outcomes, errors and progress kept for the report."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from edgepack.base import crash
from edgepack.engine.artifact import USER, Artifact
from edgepack.engine.events import Advanced, Listener, StageEnded, StageStarted
from edgepack.engine.outcome import Outcome, Variant
from edgepack.engine.stage import Scope, Stage, Work, ingredients, key_of, why_changed
from edgepack.engine.store import Record, Store
from edgepack.errors import EdgepackError, Interrupted
from edgepack.report.builder import ReportBuilder

_KEPT = "whatever was finished is kept"


class Stopped(Exception):  # noqa: N818 - not an error: it ends a row whose failure is already recorded
    """A stage of this row failed; the rest of the row is skipped."""


class Runner:
    """Does the stages of one run and tells the report and the listener about each."""

    def __init__(
        self,
        recipe: str,
        store: Store,
        report: ReportBuilder,
        listener: Listener,
        fresh: Sequence[str] = (),
    ) -> None:
        self.store = store
        self.report = report
        self.errors: list[EdgepackError] = []
        self._recipe = recipe
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
            Stopped: the stage failed; its outcome and error are in the report.
        """
        name = label or stage.name
        place = {"stage": name, "target": target, "variant": variant}
        scope = str(Scope(self._recipe, name, target, variant))
        began = time.monotonic()
        parts = ingredients(stage, spec, inputs)
        key = key_of(parts)
        forced = bool(self._fresh & {stage.name, name, "all"})
        found = self.store.find(key) if cached and not forced else None
        if found is not None:
            with suppress(OSError):  # a full disk or a store for reading alone: only an explanation is lost
                self.store.remember(scope, parts)
            self._end(place, "cached", began, record=found)
            return found
        if not cached:
            why = "the board is asked each time"
        elif forced:
            why = "asked for by --fresh"
        else:
            why = why_changed(self.store.last(scope), parts)
        self._listener(StageStarted(name, target, variant, why))
        try:
            record, keep = self._work(stage, spec, inputs, resources or {}, began)
            if cached and keep:
                record = self.store.save(key, record)
                self.store.remember(scope, parts)
        except (KeyboardInterrupt, Interrupted) as error:
            stop = error if isinstance(error, Interrupted) else Interrupted("interrupted", state=_KEPT)
            self._fail(stop, place, began)
            raise KeyboardInterrupt from error
        except Exception as error:
            # A defect, too, costs its own row only: the others go on, and there is a report of it all.
            self._fail(crash.as_error(error), place, began)
            raise Stopped from error
        self._end(place, "done", began, why=why, record=record)
        return record

    def skip(
        self, stage: Stage, why: str, *, target: str | None = None, variant: Variant | None = None
    ) -> None:
        """Record that a stage was left out, and why."""
        self._record(Outcome(stage=stage.name, target=target, variant=variant, status="skipped", why=why))

    def interrupted(self) -> None:
        """Ctrl-C between two stages: nothing was at work, the report says so all the same."""
        if not any(isinstance(error, Interrupted) for error in self.errors):
            self.errors.append(Interrupted("interrupted", state=_KEPT))
            self.report.error(self.errors[-1])

    def advanced(self, text: str, share: float | None = None) -> None:
        """Tell the listener how far the stage at work is."""
        self._listener(Advanced(text, share))

    def _work(
        self,
        stage: Stage,
        spec: Mapping[str, Any],
        inputs: Mapping[str, Artifact],
        resources: Mapping[str, Any],
        began: float,
    ) -> tuple[Record, bool]:
        """The work's result, and whether it may answer for its ingredients another time."""
        with self.store.scratch() as scratch:
            paths = self._linked(inputs, scratch / "inputs")
            made = stage.run(Work(spec, paths, scratch, {**resources, "advanced": self.advanced}))
            parents = tuple(artifact.sha256 for artifact in inputs.values())
            artifacts = {
                role: self.store.add(
                    output.path, kind=output.kind, name=output.name, made_by=stage.name, parents=parents
                )
                for role, output in made.files.items()
            }
        seconds = time.monotonic() - began
        return Record(artifacts=artifacts, figures=dict(made.figures), seconds=seconds), made.keep

    def _linked(self, inputs: Mapping[str, Artifact], folder: Path) -> dict[str, Path]:
        """The stored inputs under names with their suffix, which many readers go by."""
        paths = {}
        for role, artifact in inputs.items():
            if artifact.made_by != USER:
                paths[role] = folder / role / artifact.name
                paths[role].parent.mkdir(parents=True)
                paths[role].symlink_to(self.store.path(artifact).resolve())
        return paths

    def _fail(self, error: EdgepackError, place: dict[str, Any], began: float) -> None:
        self.errors.append(error)
        self.report.error(error, stage=place["stage"], target=place["target"])
        self._end(place, "failed", began, why=error.message)

    def _end(
        self,
        place: dict[str, Any],
        status: Literal["done", "cached", "failed"],
        began: float,
        *,
        why: str | None = None,
        record: Record | None = None,
    ) -> None:
        self._record(
            Outcome(
                **place,
                status=status,
                seconds=time.monotonic() - began,
                started=began - self._began,
                why=why,
                artifacts=tuple(record.artifacts.values()) if record else (),
            )
        )

    def _record(self, outcome: Outcome) -> None:
        self.report.outcome(outcome)
        self._listener(StageEnded(outcome))
