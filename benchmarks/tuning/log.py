"""A tuner's log, written as lines of JSON while it runs, so that it is complete whenever the tuner is killed.

Seconds are counted from the start of the tuner's process.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

PHASES = ("search", "build", "transfer", "measure")


@dataclass(frozen=True)
class TuningJob:
    """One run of one tuner."""

    net: str
    target: str
    folder: str  # for its records and its log
    minutes: float
    trials: int
    seed: int
    began: float  # time.monotonic() when its process was started
    build_timeout_s: float = 30.0  # of stock's builder


@dataclass(frozen=True)
class TunerTrial:
    """One tried candidate."""

    seconds: float  # when its time was known
    workload: str
    ms: float | None  # None: it failed to build, crashed or timed out


@dataclass
class Log:
    """The log of one run. ``pieces`` are (began, ended) of each phase."""

    trials: list[TunerTrial] = field(default_factory=list)
    pieces: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: {p: [] for p in PHASES})
    profile: dict[str, float] = field(default_factory=dict)  # MetaSchedule's own, the last one
    notes: list[str] = field(default_factory=list)
    recorded: int = 0  # trials in the tuner's records


class Writer:
    """Appends to the log of a job; thread-safe, because a line is written at once."""

    def __init__(self, job: TuningJob) -> None:
        self._began = job.began
        self._path = Path(job.folder) / "log.jsonl"

    def __enter__(self) -> Self:
        self._file = self._path.open("a", encoding="utf-8", buffering=1)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def now(self) -> float:
        """Seconds since the process was started."""
        return time.monotonic() - self._began

    def write(self, **line: Any) -> None:
        """Write one line, of one kind.

        trial, at, ms: A candidate of the workload ``trial`` was measured.
        phase, began, ended: A phase was running; without ``ended`` it has only begun.
        profile: MetaSchedule's profile so far.
        recorded: Number of new trials on disk.
        note: A remark for readers of the results.
        """
        self._file.write(json.dumps(line) + "\n")


def read(lines: Iterable[str], seconds: float) -> Log:
    """Read the log of a run that took ``seconds``; an incomplete last line is ignored.

    A phase that had not ended counts up to the end of the run.
    """
    log = Log()
    open_pieces: dict[tuple[str, float], float] = {}
    for text in lines:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if "trial" in line:
            log.trials.append(TunerTrial(line["at"], line["trial"], line["ms"]))
        elif "phase" in line:
            open_pieces[line["phase"], line["began"]] = seconds if line["ended"] is None else line["ended"]
        elif "profile" in line:
            log.profile = line["profile"]
        elif "recorded" in line:
            log.recorded += line["recorded"]
        else:
            log.notes.append(line["note"])
    for (phase, began), ended in sorted(open_pieces.items()):
        log.pieces[phase].append((began, max(began, min(ended, seconds))))
    return log


def run_tuner(main: Callable[[TuningJob, Writer], None]) -> None:
    """Run a tuner as a program: the job is passed as JSON."""
    job = TuningJob(**json.loads(sys.argv[1]))
    with Writer(job) as log:
        main(job, log)
