"""Doing one stage: from the store or by work. Whoever listens is told of each; nothing else is known here."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, Literal

from pydantic import ValidationError

from edgepack.base import crash
from edgepack.engine.artifact import USER, Artifact
from edgepack.engine.events import Advanced, ErrorRecord, Listener, Scope, StageEnded, StageStarted
from edgepack.engine.keys import ingredients_of, key_of, why_changed
from edgepack.engine.stage import F, R, Request, S, Stage, Work
from edgepack.engine.store import Record, StageRecord, Store
from edgepack.errors import EdgepackError, Interrupted

_KEPT = "whatever was finished is kept"


class StageFailed(Exception):  # noqa: N818 - not an error to show: listeners have been told of the one behind it
    """A stage failed: what needs its result cannot go on.

    Attributes:
        error: the one behind it.
    """

    def __init__(self, error: EdgepackError) -> None:
        super().__init__(error.message)
        self.error = error


class Runner(Generic[R]):
    """Does the stages of one run, each piece of work once."""

    def __init__(self, recipe: str, store: Store, listener: Listener, fresh: Sequence[str] = ()) -> None:
        self.store = store
        self.errors: list[EdgepackError] = []
        self._recipe = recipe
        self._listener = listener
        self._fresh = set(fresh)
        self._began = time.monotonic()
        self._finished: dict[str, Record | StageFailed] = {}  # by key, in this run
        self._failed: set[Scope] = set()  # places that were told to have failed, whichever candidate asked

    def do(self, stage: Stage[S, F, R], request: Request[S], scope: Scope, resources: R) -> StageRecord[F]:
        """Answer from the store or from what this run did before, or do the work and keep it.

        Raises:
            StageFailed: the stage failed, now or for another candidate; the listener has the error.
            KeyboardInterrupt: Ctrl-C, after the listener was told.
        """
        parts = ingredients_of(stage, request)
        key = key_of(parts)
        if stage.cached and key in self._finished:
            return self._shared(stage, self._finished[key], scope)
        try:
            record = self._do(stage, request, scope, resources, parts)
        except StageFailed as failed:
            self._finished[key] = failed
            raise
        self._finished[key] = record
        return record.typed(stage.figures)

    def tell(self, event: Any) -> None:
        """Pass an event of the run's own on to the listener."""
        self._listener(event)

    def skip(self, why: str, scope: Scope) -> None:
        """Tell that a stage was left out, and why."""
        self._listener(StageEnded(scope=scope, status="skipped", why=why))

    def failed(self, error: EdgepackError) -> ErrorRecord:
        """Keep an error that ends the run between two stages; returns its record."""
        self.errors.append(error)
        return ErrorRecord.of(error)

    def interrupted(self) -> Interrupted | None:
        """Ctrl-C between two stages: the error, unless a stage at work has told of one."""
        if any(isinstance(error, Interrupted) for error in self.errors):
            return None
        error = Interrupted("interrupted", state=_KEPT)
        self.errors.append(error)
        return error

    @property
    def seconds(self) -> float:
        """Since this run began."""
        return time.monotonic() - self._began

    def _shared(self, stage: Stage[S, F, R], before: Record | StageFailed, scope: Scope) -> StageRecord[F]:
        """What another candidate's identical work gave in this run."""
        if isinstance(before, StageFailed):
            self._tell_failure(before.error, scope, time.monotonic())
            raise before
        artifacts = tuple(before.artifacts.values())
        self._listener(StageEnded(scope=scope, status="shared", artifacts=artifacts, figures=before.figures))
        return before.typed(stage.figures)

    def _do(
        self,
        stage: Stage[S, F, R],
        request: Request[S],
        scope: Scope,
        resources: R,
        parts: dict[str, Any],
    ) -> Record:
        began = time.monotonic()
        key, place = key_of(parts), scope.key(self._recipe)
        forced = bool(self._fresh & {stage.name, scope.label, *request.aliases, "all"})
        found = self._stored(stage, key) if stage.cached and not forced else None
        if found is not None:
            with suppress(OSError):  # a full disk or a store for reading alone: only an explanation is lost
                self.store.remember(place, parts)
            self._end(scope, "cached", began, record=found)
            return found
        if not stage.cached:
            why = "the board is asked each time"
        elif forced:
            why = "asked for by --fresh"
        else:
            why = _why(stage, request, self.store.last(place), parts)
        self._listener(StageStarted(scope=scope, why=why))
        try:
            record, keep = self._work(stage, request, resources, began)
            if stage.cached and keep:
                record = self.store.save(key, record)
                self.store.remember(place, parts)
        except (KeyboardInterrupt, Interrupted) as error:
            stop = error if isinstance(error, Interrupted) else Interrupted("interrupted", state=_KEPT)
            self._fail(stop, scope, began)
            raise KeyboardInterrupt from error
        except Exception as error:
            # A defect, too, costs what needs this result only: the rest goes on, and there is a report of it all.
            shown = crash.as_error(error)
            self._fail(shown, scope, began)
            raise StageFailed(shown) from error
        self._end(scope, "done", began, why=why, record=record)
        return record

    def _stored(self, stage: Stage[S, F, R], key: str) -> Record | None:
        """What the store has under a key, if its figures are of the stage's type."""
        found = self.store.find(key)
        with suppress(ValidationError):
            if found is not None:
                found.typed(stage.figures)
                return found
        return None

    def _work(
        self, stage: Stage[S, F, R], request: Request[S], resources: R, began: float
    ) -> tuple[Record, bool]:
        """The work's result, and whether it may answer for its ingredients another time."""
        with self.store.scratch() as scratch:
            paths = self._linked(request.inputs, scratch / "inputs")
            result = stage.run(Work(request.spec, paths, scratch, resources, self._advanced))
            parents = tuple(artifact.sha256 for artifact in request.inputs.values())
            artifacts = {
                role: self.store.add(
                    output.path, kind=output.kind, name=output.name, made_by=stage.name, parents=parents
                )
                for role, output in result.files.items()
            }
        figures = result.figures.model_dump(mode="json")
        return Record(artifacts=artifacts, figures=figures, seconds=time.monotonic() - began), result.keep

    def _linked(self, inputs: Mapping[str, Artifact], folder: Path) -> dict[str, Path]:
        """The stored inputs under names with their suffix, which many readers go by."""
        paths = {}
        for role, artifact in inputs.items():
            if artifact.made_by != USER:
                paths[role] = folder / role / artifact.name
                paths[role].parent.mkdir(parents=True)
                paths[role].symlink_to(self.store.path(artifact).resolve())
        return paths

    def _advanced(self, text: str, share: float | None = None) -> None:
        self._listener(Advanced(text=text, share=share))

    def _fail(self, error: EdgepackError, scope: Scope, began: float) -> None:
        self.errors.append(error)
        self._tell_failure(error, scope, began)

    def _tell_failure(self, error: EdgepackError, scope: Scope, began: float) -> None:
        """Tell that a place failed, once: candidates share places that belong to no single one."""
        place = scope.model_copy(update={"candidate": scope.listed_candidate})
        if place not in self._failed:
            self._failed.add(place)
            self._end(scope, "failed", began, why=error.message, error=ErrorRecord.of(error, scope))

    def _end(
        self,
        scope: Scope,
        status: Literal["done", "cached", "failed"],
        began: float,
        *,
        why: str | None = None,
        record: Record | None = None,
        error: ErrorRecord | None = None,
    ) -> None:
        self._listener(
            StageEnded(
                scope=scope,
                status=status,
                seconds=time.monotonic() - began,
                started=began - self._began,
                why=why,
                artifacts=tuple(record.artifacts.values()) if record else (),
                figures=record.figures if record else None,
                error=error,
            )
        )


def _why(
    stage: Stage[S, F, R], request: Request[S], before: Mapping[str, Any] | None, now: Mapping[str, Any]
) -> str:
    """Why the store has no answer. A file that an earlier stage made changed for a reason given there."""
    made = [f"inputs.{role}" for role, artifact in request.inputs.items() if artifact.made_by != USER]
    return why_changed(before, now, made=made, derived=stage.derived, names=stage.names)
