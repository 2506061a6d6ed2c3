"""Runs one stage, or takes its result from the store, and sends events to the listener."""

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
from edgepack.errors import EdgepackError, Interrupted, naming

_KEPT = "completed stages are kept"


class StageFailed(Exception):  # noqa: N818 - not shown: listeners have received the underlying error
    """A stage failed: whatever needs its result is skipped.

    Attributes:
        error: the underlying error.
    """

    def __init__(self, error: EdgepackError) -> None:
        super().__init__(error.message)
        self.error = error


class Runner(Generic[R]):
    """Runs the stages of one run, each request once."""

    def __init__(
        self,
        recipe: str,
        store: Store,
        listener: Listener,
        fresh: Sequence[str] = (),
        *,
        named: tuple[str, str] = ("the model", "recipe.yaml"),
    ) -> None:
        self.store = store
        self.errors: list[EdgepackError] = []
        self._recipe = recipe
        self._named = named  # what the user calls the model, and the recipe: named in errors in place of files in scratch
        self._listener = listener
        self._fresh = set(fresh)
        self._began = time.monotonic()
        self._finished: dict[str, Record | StageFailed] = {}  # results by key, in this run
        self._failed: set[Scope] = set()  # scopes whose failure was sent to the listener, for any candidate

    def do(self, stage: Stage[S, F, R], request: Request[S], scope: Scope, resources: R) -> StageRecord[F]:
        """Return the result from the store or from earlier in this run, or run the stage and store its result.

        Raises:
            StageFailed: the stage failed, now or for another candidate; the listener has received the error.
            KeyboardInterrupt: Ctrl-C, after the listener was notified.
        """
        parts = ingredients_of(stage, request)
        key = key_of(parts)
        if stage.cached and key in self._finished:
            return self._reuse(stage, self._finished[key], scope)
        try:
            record = self._do(stage, request, scope, resources, parts)
        except StageFailed as failed:
            self._finished[key] = failed
            raise
        self._finished[key] = record
        return record.typed(stage.figures)

    def send(self, event: Any) -> None:
        """Send an event of the run itself to the listener."""
        self._listener(event)

    def skip(self, why: str, scope: Scope) -> None:
        """Report that a stage was skipped, and why."""
        self._listener(StageEnded(scope=scope, status="skipped", why=why))

    def add_error(self, error: EdgepackError) -> ErrorRecord:
        """Add an error that ends the run between two stages; returns its record."""
        self.errors.append(error)
        return ErrorRecord.of(error)

    def add_interrupt(self) -> Interrupted | None:
        """The error for Ctrl-C between two stages; None if a stage has already reported it."""
        if any(isinstance(error, Interrupted) for error in self.errors):
            return None
        error = Interrupted("interrupted", state=_KEPT)
        self.errors.append(error)
        return error

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def _reuse(self, stage: Stage[S, F, R], before: Record | StageFailed, scope: Scope) -> StageRecord[F]:
        """The result of the same work done for another candidate in this run."""
        if isinstance(before, StageFailed):
            self._send_failure(before.error, scope, time.monotonic())
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
        found = self._find_stored(stage, key) if stage.cached and not forced else None
        if found is not None:
            with suppress(
                OSError
            ):  # a full disk or a read-only store: only the explanation of the next miss is lost
                self.store.remember(place, parts)
            self._end(scope, "cached", began, record=found)
            return found
        if not stage.cached:
            why = "never cached: it asks the board"
        elif forced:
            why = "requested by --fresh"
        else:
            why = _why(stage, request, self.store.last(place), parts)
            why += "; continues the interrupted one" if self.store.has_unfinished(key) else ""
        self._listener(StageStarted(scope=scope, why=why))
        try:
            with self.store.unfinished(key, fresh=forced) as unfinished:
                record, keep = self._work(stage, request, resources, began, unfinished)
                if stage.cached and keep:
                    record = self.store.save(key, record)
                    self.store.remember(place, parts)
        except (KeyboardInterrupt, Interrupted) as error:
            stop = error if isinstance(error, Interrupted) else Interrupted("interrupted", state=_KEPT)
            self._fail(stop, scope, began)
            raise KeyboardInterrupt from error
        except Exception as error:
            # A bug, too, only stops what needs this result: the run continues, and there is a report.
            shown = crash.as_error(error)
            self._fail(shown, scope, began)
            raise StageFailed(shown) from error
        self._end(scope, "done", began, why=why, record=record)
        return record

    def _find_stored(self, stage: Stage[S, F, R], key: str) -> Record | None:
        """The stored record of a key, if its figures have the stage's type."""
        found = self.store.find(key)
        with suppress(ValidationError):
            if found is not None:
                found.typed(stage.figures)
                return found
        return None

    def _work(
        self,
        stage: Stage[S, F, R],
        request: Request[S],
        resources: R,
        began: float,
        unfinished: Path | None,
    ) -> tuple[Record, bool]:
        """The result of the stage, and whether it may be reused."""
        with self.store.scratch() as scratch, naming(scratch, *self._named):
            paths = self._link_inputs(request.inputs, scratch / "inputs")
            work = Work(request.spec, paths, scratch, resources, self._send_progress, unfinished)
            result = stage.run(work)
            parents = tuple(artifact.sha256 for artifact in request.inputs.values())
            artifacts = {
                role: self.store.add(
                    output.path, kind=output.kind, name=output.name, made_by=stage.name, parents=parents
                )
                for role, output in result.files.items()
            }
        figures = result.figures.model_dump(mode="json")
        return Record(artifacts=artifacts, figures=figures, seconds=time.monotonic() - began), result.keep

    def _link_inputs(self, inputs: Mapping[str, Artifact], folder: Path) -> dict[str, Path]:
        """Links to the stored inputs with their original file names, since many readers depend on the suffix."""
        paths = {}
        for role, artifact in inputs.items():
            if artifact.made_by != USER:
                paths[role] = folder / role / artifact.name
                paths[role].parent.mkdir(parents=True)
                paths[role].symlink_to(self.store.path(artifact).resolve())
        return paths

    def _send_progress(self, text: str, share: float | None = None) -> None:
        self._listener(Advanced(text=text, share=share))

    def _fail(self, error: EdgepackError, scope: Scope, began: float) -> None:
        self.errors.append(error)
        self._send_failure(error, scope, began)

    def _send_failure(self, error: EdgepackError, scope: Scope, began: float) -> None:
        """Report a failure once per scope: candidates share the scopes of shared work."""
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
    """Why the result was not cached. Changes of an earlier stage's output are explained by that stage."""
    produced = [f"inputs.{role}" for role, artifact in request.inputs.items() if artifact.made_by != USER]
    return why_changed(before, now, produced=produced, derived=stage.derived, names=stage.names)
