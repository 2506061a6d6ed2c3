"""What a contestant makes of a net, in a process of its own, and kept for the next run."""

import hashlib
import inspect
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.kit.environments import Environment
from benchmarks.kit.processes import Worker, WorkerFailed
from benchmarks.peers.protocol import Contestant, Task
from edgepack.base.files import sha256_file, sha256_json, write_atomic
from edgepack.engine.stage import code_digest

_failed: dict[str, WorkerFailed] = {}  # in this process, by key: what failed is not tried for other threads
GRACE_S = 60  # beyond its minutes, before a contestant that does not keep to them is ended


@dataclass(frozen=True)
class Registry:
    """Where contestants come from, for this process and for theirs."""

    reference: str  # module:attribute
    contestants: Mapping[str, Contestant]
    paths: Sequence[Path] = ()  # more folders to import from


@dataclass(frozen=True)
class Made:
    """The worker's answer to prepare, and how it came about."""

    prepared: dict[str, Any]  # model, runtime, notes
    model_bytes: int
    runtime_bytes: int
    seconds: float
    before: bool  # by an earlier run


def folder_for(
    cache: Path, name: str, contestant: Contestant, net: str, *, precision: str, threads: int
) -> Path:
    """Where a contestant prepares a cell: the same for all numbers of threads where it says so."""
    shared = getattr(contestant, "threads_share", False)
    return cache / "prepared" / name / (f"{net}-{precision}" if shared else f"{net}-{precision}-{threads}t")


def record_of(folder: Path) -> Path:
    """The file that says what was prepared in ``folder``, and from what."""
    return folder.parent / f"{folder.name}.prepared.json"


def prepare(
    registry: Registry, name: str, task: Task, environment: Environment, cores: Sequence[int], *, fresh: bool
) -> Made:
    """Let contestant ``name`` prepare, unless it has prepared the same before.

    Raises:
        WorkerFailed: It could not, or not in time.
    """
    task.folder.mkdir(parents=True, exist_ok=True)
    record = record_of(task.folder)
    key = _key(name, registry.contestants[name], task, environment)
    found = _recorded(record, key)
    if found is not None and not fresh:
        return found
    if key in _failed:
        raise _failed[key]
    record.unlink(missing_ok=True)
    start = time.monotonic()
    try:
        answer = _ask(registry, name, task, environment, cores)
    except WorkerFailed as error:
        _failed[key] = error
        raise
    made = Made(
        {part: answer[part] for part in ("model", "runtime", "notes")},
        answer["model_bytes"],
        answer["runtime_bytes"],
        time.monotonic() - start,
        before=False,
    )
    write_atomic(record, (json.dumps({"key": key, "made": asdict(made)}) + "\n").encode())
    return made


def _ask(
    registry: Registry, name: str, task: Task, environment: Environment, cores: Sequence[int]
) -> dict[str, Any]:
    with Worker(
        environment.python, registry.reference, name, cores=cores, folder=task.folder, paths=registry.paths
    ) as worker:
        return worker.ask("prepare", 60 * task.minutes + GRACE_S, task=json.loads(task.to_json()))


def _recorded(record: Path, key: str) -> Made | None:
    if not record.is_file():
        return None
    words = json.loads(record.read_text())
    made = Made(**{**words["made"], "before": True})
    files = (*made.prepared["model"], *made.prepared["runtime"])
    return made if words["key"] == key and all(Path(path).exists() for path in files) else None


def _key(name: str, contestant: Contestant, task: Task, environment: Environment) -> str:
    """Of all that shapes the result. Minutes do not: they only end what trials would go on with."""
    parts = {
        "onnx": sha256_file(task.onnx),
        "calibration": sha256_file(task.calibration),
        "precision": task.precision,
        "threads": None if getattr(contestant, "threads_share", False) else task.threads,
        "trials": task.trials,
        "environment": environment.digest,
        "name": name,
        "contestant": _source(contestant),
        # Without an environment of its own, it may use edgepack itself.
        "edgepack": None if contestant.requirements else _edgepack(),
    }
    return sha256_json(parts)


def _source(contestant: Contestant) -> list[str]:
    """Digests of its own file and of the contestants' files beside it that it takes classes or functions from."""
    package = type(contestant).__module__.rpartition(".")[0]
    modules = [type(contestant).__module__]
    for name in modules:  # which grows
        used = {_home(value) for value in vars(sys.modules[name]).values()}
        modules += sorted(one for one in used - {*modules} if package and one.rpartition(".")[0] == package)
    texts = [inspect.getsource(sys.modules[name]) for name in modules]
    return [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def _home(value: object) -> str:
    """The module that a module, class or function is, or comes from."""
    return value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", ""))


def _edgepack() -> str:
    return code_digest(("agent", "bundle", "compress", "lower", "schedules", "tune", "stages"))
