"""Tuning records on disk: one folder per kind of board and TVM version, never used for another.

MetaSchedule's database compares workloads but not targets (apache/tvm#15549), so the target is in the path:
``<root>/<target name>-<digest>/``. The digest covers everything that records depend on: TVM's
target dict, the ABI, the CPU and GPU blocks of the target, TVM's version. ``key.json`` in the folder
lists it; a folder whose key lacks newer target fields is matched by the meaning of its
key. The folder contains MetaSchedule's own formats:

- ``workload.json``, ``tuning_record.json``: all measured candidates, appended as results arrive;
- ``untuned.json``: milliseconds of the family's fallback schedule, by workload;
- ``noise.json``: relative spread of that schedule's timings, by workload;
- ``best/<digest>/``: the records that ``compile_model`` applies to one model, written by ``publish``.
"""

import contextlib
import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from edgepack.base.files import write_atomic
from edgepack.base.paths import data_dir
from edgepack.config.target import Abi, Cpu, Gpu, Target
from edgepack.errors import IntegrityError, LockedError
from edgepack.spec.document import check_version

WORKLOADS = "workload.json"
RECORDS = "tuning_record.json"
UNTUNED = "untuned.json"
NOISE = "noise.json"
LEAST_NOISE = 0.01  # relative: lower bound for the noise of timings
FORMAT = 1
_KEY = "key.json"


def key(target: Target) -> dict[str, Any]:
    """Return what records depend on; targets share records if and only if their keys are equal."""
    facts = target.model_dump(mode="json", include={"tvm", "abi", "cpu", "gpu"})
    return {"format": FORMAT, "apache-tvm": version("apache-tvm"), **facts}


def digest(document: Any) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of a document's canonical JSON."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class RecordStore:
    """All tuning records of a user, in the folder ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def of_user(cls, *, emulated: bool) -> Self:
        """Return the user's store. Measurements of emulated boards are never used for real ones."""
        return cls(data_dir() / ("records-emulated" if emulated else "records"))

    def path(self, target: Target) -> Path:
        """Return the folder of this target's records, which may not exist."""
        own = self.root / f"{target.name}-{digest(key(target))}"
        if own.is_dir():
            return own
        wanted = _meaning(key(target))
        older = sorted(self.root.glob(f"{target.name}-*/{_KEY}"))
        return next((path.parent for path in older if _meaning(_read_key(path)) == wanted), own)

    def files(self, target: Target) -> dict[str, Path]:
        """Return the files with measurements for this target, of all models; empty if there are none."""
        names = (WORKLOADS, RECORDS, UNTUNED, NOISE)
        return {name: path for name in names if (path := self.path(target) / name).is_file()}

    def folder(self, target: Target) -> Path:
        """Return the folder of this target's records, created if missing.

        Raises:
            IntegrityError: The folder contains records of another target.
            SchemaVersionError: The key was written by a newer edgepack.
        """
        wanted = key(target)
        folder = self.path(target)
        folder.mkdir(parents=True, exist_ok=True)
        described = folder / _KEY
        if not described.exists():
            write_atomic(described, (json.dumps(wanted, indent=2, sort_keys=True) + "\n").encode())
        document = _read_key(described)
        if document is not None:
            hint = f"move {folder} away and tune again"
            check_version("tuning records", document.get("format"), FORMAT, where=str(described), hint=hint)
        if _meaning(document) != _meaning(wanted):
            raise IntegrityError(
                f"the tuning records in {folder} do not belong to target {target.name}",
                where=str(described),
                why="its key does not match the folder's name",
                state="nothing was read from it",
                next=f"move {folder} away and tune again",
            )
        return folder

    @contextlib.contextmanager
    def lock(self, target: Target) -> Iterator[Path]:
        """Lock the target's folder for writing, and repair it after a crash.

        Raises:
            LockedError: Another process tunes for this target.
        """
        folder = self.folder(target)
        with (folder / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise LockedError(
                    f"another process is tuning for {target.name}",
                    where=str(folder),
                    state="its records are being written; this process has not measured anything",
                    next="wait for it to finish, or stop it",
                ) from error
            repair(folder)
            yield folder


def open_database(folder: Path) -> Any:
    """Open MetaSchedule's ``JSONDatabase`` in a folder."""
    from tvm.s_tir.meta_schedule.database import JSONDatabase

    return JSONDatabase(str(folder / WORKLOADS), str(folder / RECORDS), allow_missing=True)


def repair(folder: Path) -> int:
    """Drop incomplete records of a killed process; returns the number of dropped records.

    Raises:
        IntegrityError: A workload other than the last is damaged: records refer to workloads by line number.
    """
    workloads, bad = _split(folder / WORKLOADS)
    if bad and bad != [len(workloads)]:
        raise IntegrityError(
            "a tuning workload is damaged",
            where=f"{folder / WORKLOADS}:{bad[0] + 1}",
            state="the records were not modified",
            next=f"move {folder} away and tune again",
        )
    if bad:
        write_atomic(folder / WORKLOADS, "".join(f"{line}\n" for line in workloads).encode())
    records, bad = _split(folder / RECORDS)
    kept = [line for line in records if json.loads(line)[0] < len(workloads)]
    dropped = len(records) - len(kept) + len(bad)
    if dropped:
        write_atomic(folder / RECORDS, "".join(f"{line}\n" for line in kept).encode())
    return dropped


def beats(best: float, untuned: float, noise: float) -> bool:
    """Whether a candidate is faster than the fallback even if interference makes it slower by ``noise`` (relative).

    Noise is a factor of times: where timings vary by more than 100 %, a candidate of a tenth of the time still counts.
    """
    return best * (1 + noise) < untuned


def read_untuned(folder: Path) -> dict[str, float]:
    """Return milliseconds of the fallback schedule, by workload."""
    return _read_numbers(folder / UNTUNED)


def read_noise(folder: Path) -> dict[str, float]:
    """Return relative noise of the fallback's timings, by workload; for others, ``LEAST_NOISE`` applies."""
    return _read_numbers(folder / NOISE)


def write_untuned(folder: Path, untuned: Mapping[str, float], noise: Mapping[str, float]) -> None:
    """Replace the fallback schedules' times in milliseconds and their noise."""
    for name, numbers in ((UNTUNED, untuned), (NOISE, noise)):
        write_atomic(folder / name, (json.dumps(dict(numbers), indent=1, sort_keys=True) + "\n").encode())


def _read_numbers(path: Path) -> dict[str, float]:
    if not path.exists():
        return {}
    return {str(k): float(v) for k, v in json.loads(path.read_text(encoding="utf-8")).items()}


def publish(folder: Path, chosen: Iterable[tuple[Any, Any, float]]) -> Path:
    """Write (module, record, seconds) as a separate database, for ``compile_model(records=…)``.

    The folder's name and bytes depend only on these, so they can be part of a cache key.
    """
    from tvm.s_tir.meta_schedule.database import TuningRecord

    best = folder / "best"
    best.mkdir(exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=best, prefix="."))
    for name in (WORKLOADS, RECORDS):
        (scratch / name).touch()
    database = open_database(scratch)
    for mod, record, seconds in chosen:
        entry = database.commit_workload(mod)
        database.commit_tuning_record(
            TuningRecord(record.trace, entry, [seconds], record.target, record.args_info)
        )
    out = best / digest([(scratch / name).read_text(encoding="utf-8") for name in (WORKLOADS, RECORDS)])
    try:
        scratch.replace(out)
    except OSError:  # it exists already, written by an earlier or concurrent run
        shutil.rmtree(scratch)
        if not out.is_dir():
            raise
    return out


def _read_key(path: Path) -> dict[str, Any] | None:
    """Read a folder's key; None if it cannot be read."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _meaning(document: Mapping[str, Any] | None) -> tuple[Any, ...] | None:
    """Return a key as typed values, with defaults for missing fields; None if it is not a key."""
    if document is None or document.get("format") not in range(1, FORMAT + 1):
        return None
    try:
        abi = Abi.model_validate_json(json.dumps(document["abi"]))
        cpu = Cpu.model_validate_json(json.dumps(document["cpu"]))
        gpu = Gpu.model_validate_json(json.dumps(document["gpu"])) if document["gpu"] is not None else None
        return document["apache-tvm"], document["tvm"], abi, cpu, gpu
    except (KeyError, ValueError):
        return None


def _split(path: Path) -> tuple[list[str], list[int]]:
    """Return the lines that are valid JSON, and the numbers of the others."""
    good: list[str] = []
    bad: list[int] = []
    if not path.exists():
        return good, bad
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines()):
        try:
            json.loads(line)
        except json.JSONDecodeError:
            bad.append(number)
        else:
            good.append(line)
    return good, bad
