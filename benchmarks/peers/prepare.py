"""What a contestant makes of a net, in a process of its own, and kept for the next run."""

import hashlib
import inspect
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.kit import places
from benchmarks.kit.environments import Environment
from benchmarks.kit.processes import ProcessFailed, Worker
from benchmarks.peers.protocol import Contestant, Task
from benchmarks.peers.results import Cell
from edgepack.base.files import sha256_file, sha256_json, write_atomic
from edgepack.engine.keys import code_digest

GRACE_S = 60  # beyond its minutes, before a contestant that does not keep to them is ended
_failed: dict[str, ProcessFailed] = {}  # in this process, by key: what failed is not tried for other threads
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TVM_NUM_THREADS",
)
_KIT = "benchmarks.kit"
# What of edgepack shapes a bundle.
_EDGEPACK = ("agent", "bundle", "compress", "lower", "run", "schedules", "toolchain", "tune")


@dataclass(frozen=True)
class Registry:
    """Where contestants come from, for this process and for theirs."""

    reference: str  # module:attribute
    contestants: Mapping[str, Contestant]
    paths: Sequence[Path] = ()  # more folders to import from

    def start(self, name: str, environment: Environment, cores: Sequence[int], folder: Path) -> Worker:
        """A process of a contestant, which works in ``folder``.

        It may run on ``cores``, and libraries are told to use as many threads.
        """
        variables = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
            **dict.fromkeys(_THREADS, str(len(cores))),
            "PYTHONPATH": os.pathsep.join(map(str, (places.ROOT, *self.paths))),
            "PYTHONNOUSERSITE": "1",
            "ORT_DISABLE_TELEMETRY": "1",  # a thread of onnxruntime's that would run beside the inference
        }
        command = [str(environment.python), "-P", "-m", "benchmarks.peers.worker"]
        argv = [*command, self.reference, name, ",".join(map(str, cores))]
        return Worker(argv, folder=folder, env=variables)


@dataclass(frozen=True)
class Made:
    """The worker's answer to prepare, and how it came about."""

    prepared: dict[str, Any]  # model, runtime, notes
    model_bytes: int
    runtime_bytes: int
    seconds: float
    before: bool  # by an earlier run


def folder_for(name: str, contestant: Contestant, cell: Cell) -> Path:
    """Where a contestant prepares a cell: the same for all numbers of threads where it says so."""
    own = f"{cell.net}-{cell.precision}" if contestant.threads_share else cell.key
    return places.CACHE / "prepared" / name / own


def record_of(folder: Path) -> Path:
    """The file that says what was prepared in ``folder``, and from what."""
    return folder.parent / f"{folder.name}.prepared.json"


def prepare(
    registry: Registry, name: str, task: Task, environment: Environment, cores: Sequence[int], *, fresh: bool
) -> Made:
    """Let contestant ``name`` prepare, unless it has prepared the same before.

    Raises:
        ProcessFailed: It could not, or not in time.
    """
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
        with registry.start(name, environment, cores, task.folder) as worker:
            answer = worker.ask("prepare", 60 * task.minutes + GRACE_S, task=asdict(task))
    except ProcessFailed as error:
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
        "threads": None if contestant.threads_share else task.threads,
        "trials": task.trials,
        "environment": environment.digest,
        "name": name,
        "contestant": _source(contestant),
        # Without an environment of its own, it may use edgepack itself.
        "edgepack": None if contestant.requirements else [code_digest(p) for p in _EDGEPACK],
    }
    return sha256_json(parts)


def _source(contestant: Contestant) -> list[str]:
    """Digests of its own file, and of those beside it and in the kit that it takes classes or functions from."""
    package = type(contestant).__module__.rpartition(".")[0]
    modules = [type(contestant).__module__]
    for name in modules:  # which grows
        used = {_home(value) for value in vars(sys.modules[name]).values()} - {*modules, ""}
        modules += sorted(one for one in used if one.rpartition(".")[0] in {package or None, _KIT})
    texts = [inspect.getsource(sys.modules[name]) for name in modules]
    return [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def _home(value: object) -> str:
    """The module that a module, class or function is, or comes from."""
    return value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", ""))
