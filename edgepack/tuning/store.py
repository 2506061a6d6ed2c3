"""Tuning records on disk: one folder for one kind of board and one TVM, never served to another.

MetaSchedule's database compares workloads and not targets (apache/tvm#15549), so the target is in the path:
``<root>/<target name>-<digest>/``. The digest covers everything that decides what a record is worth: TVM's
target dict, the ABI, the CPU and GPU blocks of the target, TVM's version. ``key.json`` beside the records
spells it out; a folder whose key lacks fields that targets did not have when it was written is found by what the
key says. Inside, MetaSchedule's own formats:

- ``workload.json``, ``tuning_record.json``: every candidate ever measured, appended as results come;
- ``untuned.json``: milliseconds of the family's fallback schedule, by workload;
- ``noise.json``: how far timings of that schedule lay apart, by workload;
- ``best/<digest>/``: the records that ``compile_model`` applies to one model, made by ``publish``.
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
LEAST_NOISE = 0.01  # relative; no two timings of a kernel are trusted to differ by less
FORMAT = 1
_KEY = "key.json"


def key(target: Target) -> dict[str, Any]:
    """What records depend on; two targets share records if and only if their keys are equal."""
    facts = target.model_dump(mode="json", include={"tvm", "abi", "cpu", "gpu"})
    return {"format": FORMAT, "apache-tvm": version("apache-tvm"), **facts}


def digest(document: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of a document's canonical JSON."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class RecordStore:
    """All tuning records of a user, under ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def of_user(cls, *, emulated: bool) -> Self:
        """The user's own. What an emulated board measured is never served to a real one."""
        return cls(data_dir() / ("records-emulated" if emulated else "records"))

    def path(self, target: Target) -> Path:
        """Where this target's records are, or would be."""
        own = self.root / f"{target.name}-{digest(key(target))}"
        if own.is_dir():
            return own
        wanted = _meaning(key(target))
        older = sorted(self.root.glob(f"{target.name}-*/{_KEY}"))
        return next((path.parent for path in older if _meaning(_read_key(path)) == wanted), own)

    def files(self, target: Target) -> dict[str, Path]:
        """What was measured for this target so far, by any model's tuning; empty where nothing was."""
        names = (WORKLOADS, RECORDS, UNTUNED, NOISE)
        return {name: path for name in names if (path := self.path(target) / name).is_file()}

    def folder(self, target: Target) -> Path:
        """The folder of this target's records, made if missing.

        Raises:
            IntegrityError: The folder holds records of something else.
            SchemaVersionError: A newer edgepack wrote its key.
        """
        wanted = key(target)
        folder = self.path(target)
        folder.mkdir(parents=True, exist_ok=True)
        described = folder / _KEY
        if not described.exists():
            write_atomic(described, (json.dumps(wanted, indent=2, sort_keys=True) + "\n").encode())
        found = _read_key(described)
        if found is not None:
            hint = f"move {folder} away and tune again"
            check_version("tuning records", found.get("format"), FORMAT, where=str(described), hint=hint)
        if _meaning(found) != _meaning(wanted):
            raise IntegrityError(
                f"the tuning records in {folder} are not those of target {target.name}",
                where=str(described),
                why="its key differs from what the folder's name says",
                state="nothing was read from it",
                next=f"move {folder} away and tune again",
            )
        return folder

    @contextlib.contextmanager
    def locked(self, target: Target) -> Iterator[Path]:
        """The target's folder for writing: repaired after a crash, and nobody else's until the end.

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
                    state="its records are being written; this process measured nothing",
                    next="wait for it to finish, or stop it",
                ) from error
            repair(folder)
            yield folder


def open_database(folder: Path) -> Any:
    """MetaSchedule's ``JSONDatabase`` over a folder."""
    from tvm.s_tir.meta_schedule.database import JSONDatabase

    return JSONDatabase(str(folder / WORKLOADS), str(folder / RECORDS), allow_missing=True)


def repair(folder: Path) -> int:
    """Drop what a killed process left half written; returns how many records were dropped.

    Raises:
        IntegrityError: A workload other than the last is damaged: records refer to workloads by line.
    """
    workloads, bad = _split(folder / WORKLOADS)
    if bad and bad != [len(workloads)]:
        raise IntegrityError(
            "a tuning workload is damaged",
            where=f"{folder / WORKLOADS}:{bad[0] + 1}",
            state="the records were left as they are",
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
    """Whether a candidate's time is below the fallback's by more than ``noise``, which is relative to the latter."""
    return best < untuned * (1 - noise)


def read_untuned(folder: Path) -> dict[str, float]:
    """Milliseconds of the fallback schedule, by workload."""
    return _read_numbers(folder / UNTUNED)


def read_noise(folder: Path) -> dict[str, float]:
    """Relative noise of the fallback's timings, by workload; ``LEAST_NOISE`` holds for those that are not in it."""
    return _read_numbers(folder / NOISE)


def write_untuned(folder: Path, untuned: Mapping[str, float], noise: Mapping[str, float]) -> None:
    """Replace the milliseconds of the fallback schedules and their noise."""
    for name, numbers in ((UNTUNED, untuned), (NOISE, noise)):
        write_atomic(folder / name, (json.dumps(dict(numbers), indent=1, sort_keys=True) + "\n").encode())


def _read_numbers(path: Path) -> dict[str, float]:
    if not path.exists():
        return {}
    return {str(k): float(v) for k, v in json.loads(path.read_text(encoding="utf-8")).items()}


def publish(folder: Path, chosen: Iterable[tuple[Any, Any, float]]) -> Path:
    """Write (module, record, seconds) as a database of its own, for ``compile_model(records=…)``.

    The folder's name and bytes depend on these alone, so they can be part of a cache key.
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
    except OSError:  # it is there already, by an earlier run or by one beside this
        shutil.rmtree(scratch)
        if not out.is_dir():
            raise
    return out


def _read_key(path: Path) -> dict[str, Any] | None:
    """What a folder says its records depend on; None where it cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _meaning(found: Mapping[str, Any] | None) -> tuple[Any, ...] | None:
    """A key as typed values: fields that it lacks have the defaults a target gives them. None for what is none."""
    if found is None or found.get("format") not in range(1, FORMAT + 1):
        return None
    try:
        abi = Abi.model_validate_json(json.dumps(found["abi"]))
        cpu = Cpu.model_validate_json(json.dumps(found["cpu"]))
        gpu = Gpu.model_validate_json(json.dumps(found["gpu"])) if found["gpu"] is not None else None
        return found["apache-tvm"], found["tvm"], abi, cpu, gpu
    except (KeyError, ValueError):
        return None


def _split(path: Path) -> tuple[list[str], list[int]]:
    """The lines that are JSON, and the numbers of those that are not."""
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
