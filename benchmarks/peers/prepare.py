"""Prepare a contestant's model of a net in a separate process, and cache it."""

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

from benchmarks.kit import places, reference
from benchmarks.kit.environments import Environment
from benchmarks.kit.processes import ProcessFailed, WorkerProcess
from benchmarks.peers.protocol import Assignment, Contestant
from benchmarks.peers.results import Cell
from edgepack.base.files import sha256_file, sha256_json, write_atomic
from edgepack.engine.keys import code_digest

GRACE_S = 60  # extra time before a contestant that exceeds its time limit is killed
_failed: dict[str, ProcessFailed] = {}  # failures in this process by key, not retried for other thread counts
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TVM_NUM_THREADS",
)
_KIT = "benchmarks.kit"
# Parts of edgepack that affect a bundle.
_EDGEPACK = ("agent", "bundle", "compression", "lower", "pipeline", "schedules", "toolchain", "tuning")


@dataclass(frozen=True)
class Contestants:
    """Where contestants are imported from, in this process and in theirs."""

    reference: str  # module:attribute
    contestants: Mapping[str, Contestant]
    paths: Sequence[Path] = ()  # additional import paths

    def start(self, name: str, environment: Environment, cores: Sequence[int], folder: Path) -> WorkerProcess:
        """Start a process of a contestant in ``folder``.

        It may run on ``cores``, and libraries are configured to use as many threads.
        """
        own = os.sched_getaffinity(0)
        variables = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
            **dict.fromkeys(_THREADS, str(len(cores))),
            "PYTHONPATH": os.pathsep.join(map(str, (places.ROOT, *self.paths))),
            "PYTHONNOUSERSITE": "1",
            "ORT_DISABLE_TELEMETRY": "1",  # otherwise a thread of onnxruntime runs during the inference
        }
        argv = [str(environment.python), "-P", "-m", "benchmarks.peers.server", self.reference, name]
        os.sched_setaffinity(0, cores)  # inherited, before any library starts threads
        try:
            return WorkerProcess(argv, folder=folder, env=variables)
        finally:
            os.sched_setaffinity(0, own)


def folder_for(name: str, contestant: Contestant, cell: Cell) -> Path:
    """Return the folder in which a contestant prepares a cell; shared by all thread counts if it says so."""
    own = f"{cell.net}-{cell.precision}" if contestant.threads_share else cell.key
    return places.CACHE / "prepared" / name / own


def record_of(folder: Path) -> Path:
    """Return the file that records what was prepared in ``folder``, and from what."""
    return folder.parent / f"{folder.name}.made.json"


def prepare(
    registry: Contestants,
    name: str,
    task: Assignment,
    environment: Environment,
    cores: Sequence[int],
    *,
    fresh: bool,
) -> dict[str, Any]:
    """Prepare contestant ``name``, or reuse an earlier result: files, sizes, notes, and the time it took.

    ``exact`` in the result is the .npz file of the quantized model's exact outputs, or None.

    Raises:
        ProcessFailed: It failed or took too long.
    """
    record = record_of(task.folder)
    key = _key(name, registry.contestants[name], task, environment)
    cached = _read_record(record, key)
    if cached is not None and not fresh:
        return cached
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
    result = answer | {"prepare_seconds": time.monotonic() - start, "prepared_before": False}
    exact = Path(answer["exact"] or "")
    if exact.suffix == ".onnx":
        result["exact"] = str(reference.write_apart(exact, task.calibration, task.folder / "exact.npz"))
    write_atomic(record, (json.dumps({"key": key, "made": result}) + "\n").encode())
    return result


def _read_record(record: Path, key: str) -> dict[str, Any] | None:
    if not record.is_file():
        return None
    words = json.loads(record.read_text())
    result = words["made"]
    files = (*result["model"], *result["runtime"], *filter(None, [result["exact"]]))
    there = all(Path(path).exists() for path in files)
    return result | {"prepared_before": True} if words["key"] == key and there else None


def _key(name: str, contestant: Contestant, task: Assignment, environment: Environment) -> str:
    """Return a key of everything that affects the result. Minutes do not: they only cut trials short."""
    parts = {
        "onnx": sha256_file(task.onnx),
        "calibration": sha256_file(task.calibration),
        "precision": task.precision,
        "threads": None if contestant.threads_share else task.threads,
        "trials": task.trials,
        "environment": environment.digest,
        "name": name,
        "contestant": _source(contestant),
        # Without its own environment, it may use edgepack itself.
        "edgepack": None if contestant.requirements else [code_digest(p) for p in _EDGEPACK],
        "reference": code_digest("export"),
    }
    return sha256_json(parts)


def _source(contestant: Contestant) -> list[str]:
    """Return digests of its own file, and of the modules next to it and in the kit that it imports from."""
    package = type(contestant).__module__.rpartition(".")[0]
    modules = [type(contestant).__module__]
    for name in modules:  # grows during iteration
        used = {_home(value) for value in vars(sys.modules[name]).values()} - {*modules, ""}
        modules += sorted(one for one in used if one.rpartition(".")[0] in {package or None, _KIT})
    texts = [inspect.getsource(sys.modules[name]) for name in modules]
    return [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def _home(value: object) -> str:
    """Return the module that defines a module, class or function."""
    return value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", ""))
