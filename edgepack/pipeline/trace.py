"""The trace of a run: its typed events in order, in memory and on disk. The report is a fold over it.

On disk a trace has one JSON object per line, ``traces/RUN.jsonl`` in edgepack's data directory; the first line has the
version. Progress events (``Advanced``) are not stored.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from edgepack.base.files import canonical_json, write_atomic
from edgepack.base.paths import data_dir
from edgepack.config.gates import Gates
from edgepack.engine.events import Advanced, ErrorRecord, StageEnded, StageStarted
from edgepack.errors import InputError
from edgepack.spec import Finite, Spec
from edgepack.spec.document import check_version, rename_key

TRACE_VERSION = 3
_HINT = "re-run the recipe: edgepack run"

Until = Literal["evaluate", "tune", "package", "bench"]


class RecipeRef(Spec):
    """The recipe of a run."""

    name: str
    version: str
    digest: str = Field(description="sha256 of its canonical JSON.")
    path: str | None = None


class Host(Spec):
    """The build host of a run, not the boards."""

    system: str
    machine: str
    cores: int = Field(ge=1)
    python: str
    cpu: str | None = None


class Placement(Spec):
    """A target of the run with one of its devices, if any."""

    target: str
    device: str | None = None
    emulated: bool = False


class RunStarted(Spec):
    """The run started: recipe, host, placements."""

    event: Literal["run-started"] = "run-started"
    trace: Literal[3] = Field(default=3, description="Version of the trace's schema.")
    run_id: str
    started: str = Field(description="ISO 8601, UTC.")
    until: Until
    recipe: RecipeRef
    gates: Gates
    tools: dict[str, str]
    host: Host
    placements: tuple[Placement, ...]


class CandidatePromoted(Spec):
    """A candidate completed the model stages and was chosen to be built."""

    event: Literal["candidate-promoted"] = "candidate-promoted"
    candidate: str


class CandidateNotBuilt(Spec):
    """A candidate is not built for a target, and why."""

    event: Literal["candidate-not-built"] = "candidate-not-built"
    candidate: str
    target: str
    why: str


class RunInterrupted(Spec):
    """The run ended early, between two stages: Ctrl-C, its strategy failed, or a step missed a gate."""

    event: Literal["run-interrupted"] = "run-interrupted"
    error: ErrorRecord


class RunEnded(Spec):
    """The run ended."""

    event: Literal["run-ended"] = "run-ended"
    seconds: Finite = Field(ge=0)


TraceEvent = (
    RunStarted | StageStarted | StageEnded | CandidatePromoted | CandidateNotBuilt | RunInterrupted | RunEnded
)
_EVENT: TypeAdapter[TraceEvent] = TypeAdapter(Annotated[TraceEvent, Field(discriminator="event")])


class Trace:
    """Collects a run's events; a listener."""

    def __init__(self, events: Iterable[TraceEvent] = ()) -> None:
        self.events: list[TraceEvent] = list(events)

    def __call__(self, event: Any) -> None:
        """Add an event, unless it is progress."""
        if not isinstance(event, Advanced):
            self.events.append(event)

    def save(self, run_id: str) -> Path:
        """Write the trace; returns the file."""
        lines = (canonical_json(event.model_dump(mode="json")) + "\n" for event in self.events)
        path = trace_path(run_id)
        write_atomic(path, "".join(lines).encode())
        return path

    @classmethod
    def load(cls, path: Path) -> "Trace":
        """Read a trace back.

        Raises:
            InputError: the file cannot be read, or a line is not an event.
            SchemaVersionError: a newer edgepack wrote it.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("cannot read the trace", where=str(path), why=str(error)) from error
        events = []
        version = TRACE_VERSION
        for number, line in enumerate(lines, start=1):
            try:
                value = json.loads(line)
                if number == 1 and isinstance(value, dict) and value.get("event") == "run-started":
                    version = check_version(
                        "trace", value.get("trace"), TRACE_VERSION, where=str(path), hint=_HINT
                    )
                # Through JSON, because pydantic's strict mode takes lists for tuples from JSON only.
                events.append(_EVENT.validate_json(json.dumps(_upgrade_event(value, version))))
            except ValueError as error:  # ValidationError is one
                why = str(error).partition("\n")[0]
                raise InputError("not an event of a trace", where=f"{path}:{number}", why=why) from error
        if not events or not isinstance(events[0], RunStarted):
            raise InputError(
                "not the trace of a run", where=str(path), why="it does not start with run-started"
            )
        return cls(events)


def _upgrade_event(value: Any, version: int) -> Any:
    """Convert an event of an older trace to this version.

    Version 1 had ``variant``, the candidate as reports list it, instead of ``shared``, and ``obstacles`` for
    ``model_problems``; versions up to 2 had ``accuracy`` for ``score``.
    """
    if version == TRACE_VERSION or not isinstance(value, dict):
        return value
    if "trace" in value:
        value = {**value, "trace": TRACE_VERSION}
    if isinstance(figures := value.get("figures"), dict):
        figures = rename_key(figures, "accuracy", "score")
        if "answers" in figures:
            figures = {**figures, "answers": rename_key(figures["answers"], "accuracy", "score")}
        value = {**value, "figures": figures}
    if version > 1:
        return value
    scope = value.get("scope")
    if isinstance(scope, dict) and "variant" in scope:
        listed = {key: item for key, item in scope.items() if key != "variant"}
        shared = scope["variant"] is None and scope.get("candidate") is not None
        value = {**value, "scope": {**listed, "shared": shared}}
    if "error" in value:
        value = {**value, "error": rename_key(value["error"], "obstacles", "model_problems")}
    return value


def trace_path(run_id: str) -> Path:
    """The path of a run's trace."""
    return data_dir() / "traces" / f"{run_id}.jsonl"
